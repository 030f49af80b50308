// What the ring tests share: a ring on the real kernel, and collected completions.

import { type Liburing, liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { IORING_SETUP } from "../../src/ffi/uring.ts";
import { Ring } from "../../src/ring/ring.ts";

export const liburing = loadLiburing(liburingPath());

/** The flags of the data path's rings. */
export const DATA = IORING_SETUP.SINGLE_ISSUER | IORING_SETUP.DEFER_TASKRUN;

export function openRing(
  options: { entries?: number; cqEntries?: number; flags?: number; library?: Liburing } = {},
): Ring {
  const { entries = 8, cqEntries = 32, flags = DATA, library = liburing } = options;
  return new Ring({ liburing: library, entries, cqEntries, flags });
}

export type Completion = readonly [lo: number, hi: number, result: number, flags: number];

/** Everything that is there to be reaped. */
export function reapAll(ring: Ring): Completion[] {
  const found: Completion[] = [];
  ring.reap((lo, hi, result, flags) => found.push([lo, hi, result, flags]));
  return found;
}

/** Submits and waits until there are `count` completions. */
export function complete(ring: Ring, count: number): Completion[] {
  const found: Completion[] = [];
  while (found.length < count) {
    ring.submitAndWait(1);
    found.push(...reapAll(ring));
  }
  return found;
}
