// A page that says how far each queue has come: written by the Workers, read by the main thread's watch.
//
// One cache line a queue: [0] rounds (odd while the Worker is busy), [1] requests served, and [2],
// which main writes: the device is live; [3] the target failed before that; [4] the operation that a
// target's function was called for and has not returned from, plus one.

import { viewInt32 } from "../ffi/memory.ts";

export const PROGRESS_LINE_BYTES = 64;

/** One queue's line of the page. Plain stores: nobody waits on it, and a late look does no harm. */
export class Progress {
  readonly address: number;
  private readonly line: Int32Array;

  constructor(address: number) {
    this.address = address;
    this.line = viewInt32(address, PROGRESS_LINE_BYTES);
  }

  /** The Worker has something to do. */
  busy(): void {
    this.line[0] = (this.line[0]! + 1) | 1;
  }

  /** The Worker goes to sleep in its ring. */
  idle(served: number): void {
    this.line[0] = (this.line[0]! | 1) + 1;
    this.line[1] = served;
  }

  /** Changes with every round. */
  get rounds(): number {
    return this.line[0]!;
  }

  get isBusy(): boolean {
    return (this.line[0]! & 1) === 1;
  }

  get served(): number {
    return this.line[1]!;
  }

  /** False while START_DEV may still be under way. */
  get isLive(): boolean {
    return Atomics.load(this.line, 2) === 1;
  }

  /** Main's: START_DEV is over, or the device is an old one. */
  markLive(): void {
    Atomics.store(this.line, 2, 1);
  }

  /** The operation that a target's function is called for; -1: it has returned. */
  markCall(op: number): void {
    this.line[4] = op + 1;
  }

  get call(): number {
    return this.line[4]! - 1;
  }

  /** Each side marks its own first and then looks at the other's: one of them sees both. */
  get isBroken(): boolean {
    return Atomics.load(this.line, 3) === 1;
  }

  /** The Worker's: its target has thrown before the device was live. */
  markBroken(): void {
    Atomics.store(this.line, 3, 1);
  }
}
