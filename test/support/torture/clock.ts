// The clock that all processes of a machine share: the runtime's own begin with their process.

import { dlopen } from "bun:ffi";

const CLOCK_MONOTONIC = 1;

const { symbols: C } = dlopen("libc.so.6", {
  clock_gettime: { args: ["i32", "ptr"], returns: "i32" },
});
const timespec = new BigInt64Array(2);

export function monotonicNs(): number {
  if (C.clock_gettime(CLOCK_MONOTONIC, timespec) !== 0) throw new Error("clock_gettime failed");
  return Number(timespec[0]) * 1e9 + Number(timespec[1]);
}
