// Which of the kernel's scripts there are, and which of them race the clock.

import { readdirSync } from "node:fs";

/**
 * generic_06 must look at its device twice and kill its server within two seconds, and its I/O end within
 * five: it wants a guest whose clock waits for it (`ownClock`).
 */
export const TIMED: readonly string[] = ["generic_06"];

/** Such as "null_01", in order, of the scripts in a folder. */
export function scriptNames(folder: string): string[] {
  return readdirSync(folder)
    .map((file) => /^test_(.+_\d+)\.sh$/.exec(file)?.[1])
    .filter((name) => name !== undefined)
    .toSorted();
}
