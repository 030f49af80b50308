// How far the parts of requests are, each of which is moved by one SQE at a time: what comes back short
// is finished, what was interrupted is done again, and nothing is ever called done that is not.

import { ERRNO } from "../ffi/errno.ts";
import type { QueueContext } from "../target.ts";

/** What is to be done about a part; a negative errno: it has failed. */
export const NEXT = { done: 0, again: 1 } as const;

/** A backing that says "again" for ever is broken. */
const TRIES_MAX = 100;

const INTERRUPTED = -ERRNO.EINTR;
const NOT_NOW = -ERRNO.EAGAIN;

export interface PartsOptions {
  readonly count: number;
  /** Backend I/O begins and ends on multiples of it. */
  readonly blockBytes: number;
  /** What a part lies on; for the log. */
  readonly fileOf: (part: number) => string;
  /** What a part lies on is a device that was removed. */
  readonly isGone: (part: number) => boolean;
}

export class Parts {
  /** How much of each is moved; direct I/O goes on from there. */
  readonly doneBytes: Int32Array;
  private readonly tries: Uint8Array;
  private readonly blockBytes: number;
  private readonly queue: Pick<QueueContext, "note">;
  private readonly fileOf: (part: number) => string;
  private readonly isGone: (part: number) => boolean;
  private isShrinkNoted = false;

  constructor(queue: Pick<QueueContext, "note">, options: PartsOptions) {
    const { count, blockBytes, fileOf, isGone } = options;
    this.doneBytes = new Int32Array(count);
    this.tries = new Uint8Array(count);
    this.blockBytes = blockBytes;
    this.queue = queue;
    this.fileOf = fileOf;
    this.isGone = isGone;
  }

  begin(part: number): void {
    this.doneBytes[part] = 0;
    this.tries[part] = 0;
  }

  /** True where the ring's own attempt came to nothing: then a kernel thread, which may wait. */
  mayWait(part: number): boolean {
    return this.tries[part]! > 0;
  }

  /** An SQE that was to move what is left of a part of `lengthBytes` has come back. */
  moved(part: number, lengthBytes: number, result: number, isRead: boolean): number {
    // To the kernel every place on a removed device is beyond its end, and no space left for a write.
    if (result === -ERRNO.ENOSPC && this.isGone(part)) return -ERRNO.EIO;
    if (result < 0) return this.answered(part, result);
    const before = this.doneBytes[part]!;
    const done = before + result;
    if (done === lengthBytes) return NEXT.done;
    // Direct I/O goes on at a block's beginning; what is less than a block is done again.
    const whole = done - (done % this.blockBytes);
    if (whole > before) {
      this.doneBytes[part] = whole;
      this.tries[part] = 0;
      return NEXT.again;
    }
    // Not a block more. Of a write the next try says why.
    if (!isRead && result > 0) return this.again(part);
    if (isRead) this.noteShrunk(part);
    // Never what the memory held before.
    return -ERRNO.EIO;
  }

  /** A read has met the end of a backing that has shrunk: said once. */
  private noteShrunk(part: number): void {
    if (this.isShrinkNoted) return;
    this.isShrinkNoted = true;
    this.queue.note(`${this.fileOf(part)} has shrunk: what is read beyond its end fails with EIO`);
  }

  /** An SQE that moves nothing has come back. */
  answered(part: number, result: number): number {
    if (result === INTERRUPTED || result === NOT_NOW) return this.again(part);
    return result < 0 ? result : NEXT.done;
  }

  private again(part: number): number {
    this.tries[part] = this.tries[part]! + 1;
    return this.tries[part]! > TRIES_MAX ? -ERRNO.EIO : NEXT.again;
  }
}
