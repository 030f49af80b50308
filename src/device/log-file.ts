// A daemon's log: its stdout and stderr are this file, which is rotated once so that a run folder
// in memory never fills.

import { closeSync, fstatSync, readSync, renameSync, statSync } from "../builtin.ts";
import { dup2 } from "../ffi/libc.ts";
import { openToAppend } from "./append.ts";
import { peek } from "./processes.ts";

/** The file and its one predecessor together stay below 1 MiB. */
const FILE_BYTES_MAX = 448 * 1024;
/** More than a message and its stack. */
const LAST_BYTES = 8192;
const ROTATE_CHECK_MS = 10_000;

export class LogFile {
  #path: string;

  /** `path`: where stdout and stderr of this process go already. */
  constructor(path: string) {
    this.#path = path;
  }

  /** Gives the file its lasting name. */
  moveTo(path: string): void {
    renameSync(this.#path, path);
    this.#path = path;
  }

  /** Goes on in the file of this name, when that is another one by now, or is still to be made. False: it cannot. */
  follow(): boolean {
    const followed = peek(() => {
      const there = statSync(this.#path, { throwIfNoEntry: false });
      if (there?.ino !== fstatSync(2).ino) this.#open();
      return true;
    });
    return followed === true;
  }

  /** Looks at the file's size now and then; does not keep the process alive. */
  watch(): void {
    // A run folder that is gone or full must not end a server.
    setInterval(() => peek(() => this.rotateIfLarge()), ROTATE_CHECK_MS).unref();
  }

  rotateIfLarge(): void {
    if (fstatSync(2).size < FILE_BYTES_MAX) return;
    // Somebody may have removed it.
    peek(() => renameSync(this.#path, `${this.#path}.1`));
    this.#open();
  }

  #open(): void {
    const fd = openToAppend(this.#path);
    dup2(fd, 1);
    dup2(fd, 2);
    closeSync(fd);
  }
}

/**
 * What a daemon that died said last: the last line of its log that begins a message, of what was
 * written beyond the first `began` bytes. What only informs is passed over: main may say that it is live while
 * a queue says what it dies of, and the log may be that of another server, too.
 */
export function lastWords(fd: number, began: number): string {
  const { size } = fstatSync(fd);
  const bytes = Buffer.alloc(Math.max(0, Math.min(size - began, LAST_BYTES)));
  readSync(fd, bytes, 0, bytes.length, size - bytes.length);
  const lines = bytes.toString("utf8").split("\n");
  // What is indented belongs to the line above: a stack.
  const line = lines.findLast((text) => /^\S/.test(text) && !/^\d{4}-\S+Z info /.test(text)) ?? "";
  return line.replace(/^\d{4}-\S+Z \w+ /, "");
}
