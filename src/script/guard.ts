// What a person's file must not do to a process that has loaded it: end it in the middle of a command,
// write between the command's data, or keep it loading for ever.

import { begun } from "../begun.ts";
import { fstatSync } from "../builtin.ts";
import { AssertionError, EXIT, messageOf, placeOf, stackOf } from "../errors.ts";
import { _exit, close, dup2, F, fcntl } from "../ffi/libc.ts";
import { spawnLoadWatch } from "../spawn.ts";
import { output, tryWrite } from "../write.ts";
import { nativeExit } from "./native-exit.ts";
import { findWord } from "./places.ts";

/** What the thread that watches a file being loaded is sent. */
export interface LoadWatch {
  /** Becomes 1, and is notified, when loading has ended. */
  readonly ended: Int32Array;
  readonly limitMs: number;
  /** Its last words. */
  readonly text: string;
}

/** A timer of the busy thread itself comes first where the thread is not busy. */
const BUSY_MS = 1000;
export const LOAD_HINT = "at its top a file only says what it is; what takes long belongs in open";

/** Where `process.exit` is called and does not end the process. */
const ENDED = new Error("process.exit");

const files = new Set<string>();
let loading = 0;
let isGuarded = false;

/**
 * To be called before a person's file is loaded, and disposed of when that has ended. The process (in
 * its main thread) ends when loading takes longer than `limitMs`, even in an endless loop. From then on
 * `process.exit` is not the file's to call: while it is loaded that throws, later it ends a command with
 * an error, and one that has begun what it must see through it does not end. A process or thread that has put
 * something else in its place is asked instead.
 */
export function guardLoading(file: string, limitMs: number): Disposable {
  guard();
  files.add(file);
  loading++;
  const ended = Bun.isMainThread ? watch(file, limitMs) : undefined;
  return {
    [Symbol.dispose]: () => {
      loading--;
      if (ended === undefined) return;
      // The file's own would become that of a command that has worked.
      process.exitCode = EXIT.ok;
      Atomics.store(ended, 0, 1);
      Atomics.notify(ended, 0);
    },
  };
}

/** What is said of a file that does not get loaded. */
export const lateText = (limitMs: number) => `loading it has not ended after ${limitMs / 1000} s`;

function guard(): void {
  if (isGuarded) return;
  isGuarded = true;
  const isOurs = Bun.isMainThread && process.exit === nativeExit;
  const next = isOurs ? endCommand : process.exit.bind(process);
  process.exit = (code) => {
    if (loading === 0) return next(code);
    throw new Error(`process.exit(${code ?? ""}) was called while the file was loaded`);
  };
  if (Bun.isMainThread) keepOutput();
  if (isOurs && process.listenerCount("uncaughtException") === 0) {
    process.on("uncaughtException", onUncaught).on("unhandledRejection", onUncaught);
  }
}

function onUncaught(error: unknown): void {
  if (error === ENDED) return;
  const place = placeOf(error);
  if (place === undefined || error instanceof AssertionError) {
    // Of our own, perhaps.
    tryWrite(2, `ublk-bun: nobody caught: ${stackOf(error)}\n`);
    return _exit(EXIT.failed);
  }
  tryWrite(2, `ublk-bun: ${place}: nobody caught: ${messageOf(error)}\n`);
  endUnlessBegun();
}

/**
 * At once: nothing that the file has prepared for the end may make a success of it. But not a command that takes
 * back by itself what it has begun: what the file does to a server it hears of by the server's end.
 */
function endUnlessBegun(): void {
  if (!begun.is) _exit(EXIT.failed);
}

function endCommand(code?: number | string | null): never {
  const place = placeOf(new Error("process.exit")) ?? placeOfExit();
  tryWrite(
    2,
    `ublk-bun: ${place}: process.exit(${code ?? ""}) was called ` +
      "(that is not for a disk's code: it would end the service of the disk)\n",
  );
  endUnlessBegun();
  throw ENDED;
}

/** A timer's arrow function that does nothing else leaves no trace in the stack. */
function placeOfExit(): string {
  for (const file of files) {
    const place = findWord(file, /\bexit\b/);
    if (place !== undefined) return place;
  }
  return [...files].join(" or ");
}

/** Whatever a person's code writes to stdout goes to stderr, where the two are not the same. */
function keepOutput(): void {
  if (isSameFile(1, 2)) return;
  const fd = fcntl(1, F.DUPFD_CLOEXEC, 3);
  if (fd < 0) return;
  if (dup2(2, 1) < 0) close(fd);
  else output.fd = fd;
}

function isSameFile(one: number, other: number): boolean {
  try {
    const [a, b] = [fstatSync(one), fstatSync(other)];
    return a.ino === b.ino && a.dev === b.dev;
  } catch {
    return true;
  }
}

function watch(file: string, limitMs: number): Int32Array {
  const ended = new Int32Array(new SharedArrayBuffer(4));
  const text = `ublk-bun: ${file}: ${lateText(limitMs)}, and keeps the thread busy (${LOAD_HINT})\n`;
  const job: LoadWatch = { ended, limitMs: limitMs + BUSY_MS, text };
  const thread = spawnLoadWatch();
  // Loading does not depend on it.
  thread.onerror = (event) => event.preventDefault();
  thread.unref();
  thread.postMessage(job);
  return ended;
}
