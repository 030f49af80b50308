// Writes text to a descriptor, whole and at once: Node's streams lose what a slow reader has not
// taken when the process exits, and tell nobody that a disk is full.

import { writeSync } from "./builtin.ts";

const RETRY_MS = 1;

/** Where the program's data goes: its stdout, also when a person's code may not write there. */
export const output = { fd: 1 };

/** Throws the system's error; a reader that has gone (EPIPE) is none: false then. */
export function writeAll(fd: number, text: string): boolean {
  const bytes = Buffer.from(text);
  let done = 0;
  while (done < bytes.length) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPIPE") return false;
      if (code !== "EAGAIN") throw error;
      Bun.sleepSync(RETRY_MS);
    }
  }
  return true;
}

/** As `writeAll`, for words that nothing must depend on: a log on a full disk is not worth a disk. */
export function tryWrite(fd: number, text: string): void {
  try {
    writeAll(fd, text);
  } catch {
    // There is no other place to say it.
  }
}
