// A shell's limit of open files is not meant for servers, nor for the helpers that end them.

import { getrlimit, RLIMIT, setrlimit } from "../ffi/libc.ts";

/** 32 queues need some 120, and the targets theirs. */
const FILES_MIN = 1024n;

/** Raises the limit for this process and all it starts, where that is allowed. */
export function raiseFileLimit(): void {
  const limits = new BigUint64Array(2);
  if (getrlimit(RLIMIT.NOFILE, limits) < 0) return;
  const [soft = 0n, hard = 0n] = limits;
  if (soft >= FILES_MIN) return;
  limits.set([FILES_MIN, hard < FILES_MIN ? FILES_MIN : hard]);
  // Only root may raise the hard one; with less it works as far as it goes.
  setrlimit(RLIMIT.NOFILE, limits);
}
