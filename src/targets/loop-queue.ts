// One queue of a loop disk: requests become SQEs on the backing, short ones are finished.

import { RWF } from "../ffi/block.ts";
import { ERRNO } from "../ffi/errno.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../ffi/ublk.ts";
import { IOSQE } from "../ffi/uring.ts";
import { addFlags, setRwFlags } from "../ring/ops.ts";
import type { QueueContext, RingHandler } from "../target.ts";
import { prepStep, STEP, TRIES_MAX } from "./file-steps.ts";

export interface LoopQueueOptions {
  /** For the log. */
  readonly file: string;
  readonly offsetBytes: number;
  readonly readOnly: boolean;
  readonly isDevice: boolean;
  readonly canDiscard: boolean;
  /** False: a zeroed range keeps its space. */
  readonly mayUnmap: boolean;
  /** Backend I/O begins and ends on multiples of it. */
  readonly blockBytes: number;
}

/** Position of the backing in the registered files. */
const FILE = 0;

export class LoopQueue implements RingHandler {
  readonly kind = "ring";
  private readonly queue: QueueContext;
  private readonly options: LoopQueueOptions;
  private readonly offsetBytes: number;
  private readonly blockBytes: number;
  /** How much of a READ or WRITE is done. */
  private readonly doneBytes: Int32Array;
  private readonly tries: Uint8Array;
  /** Before Linux 6.12 a block device takes no discard through the ring. */
  private hasDiscardCommand: boolean;
  private isShrinkNoted = false;

  constructor(queue: QueueContext, options: LoopQueueOptions) {
    this.queue = queue;
    this.options = options;
    this.offsetBytes = options.offsetBytes;
    this.blockBytes = options.blockBytes;
    this.doneBytes = new Int32Array(queue.depth);
    this.tries = new Uint8Array(queue.depth);
    this.hasDiscardCommand = options.isDevice;
  }

  start(tag: number): void {
    const op = this.queue.op(tag);
    this.tries[tag] = 0;
    if (op === UBLK_IO_OP.READ) {
      this.doneBytes[tag] = 0;
      return this.move(tag);
    }
    if (op === UBLK_IO_OP.FLUSH) return this.step(tag, STEP.sync);
    if (this.options.readOnly) return this.queue.complete(tag, -ERRNO.EROFS);
    if (op === UBLK_IO_OP.WRITE) {
      this.doneBytes[tag] = 0;
      return this.move(tag);
    }
    if (op === UBLK_IO_OP.DISCARD && this.options.canDiscard) return this.discard(tag);
    if (op === UBLK_IO_OP.WRITE_ZEROES) return this.writeZeroes(tag);
    this.queue.complete(tag, -ERRNO.EOPNOTSUPP);
  }

  finish(tag: number, step: number, result: number): void {
    if (result === -ERRNO.EINTR || result === -ERRNO.EAGAIN) return this.again(tag, step);
    if (step === STEP.move) return this.moved(tag, result);
    if (result === -ERRNO.EOPNOTSUPP) {
      if (step === STEP.discardCommand) {
        this.hasDiscardCommand = false;
        return this.step(tag, STEP.discard);
      }
      if (step === STEP.punch) return this.step(tag, STEP.zero);
    }
    const isDurable = step === STEP.sync || (this.queue.flags(tag) & UBLK_IO_F.FUA) === 0;
    if (result >= 0 && !isDurable) return this.step(tag, STEP.sync);
    this.queue.complete(tag, result < 0 ? result : 0);
  }

  /** Reads or writes what is left of the request. */
  private move(tag: number): void {
    const { queue } = this;
    const done = this.doneBytes[tag]!;
    const at = queue.ring.sqe();
    const fileOffset = this.offsetBytes + queue.offsetBytes(tag) + done;
    queue.transfer(at, tag, FILE, fileOffset, done, queue.lengthBytes(tag) - done);
    if ((queue.flags(tag) & UBLK_IO_F.FUA) !== 0 && queue.op(tag) === UBLK_IO_OP.WRITE) {
      setRwFlags(queue.ring.sqes, at, RWF.DSYNC);
    }
    this.send(at, tag, STEP.move);
  }

  private moved(tag: number, result: number): void {
    const { queue } = this;
    if (result < 0) return queue.complete(tag, result);
    const lengthBytes = queue.lengthBytes(tag);
    const done = this.doneBytes[tag]! + result;
    if (done === lengthBytes) return queue.complete(tag, lengthBytes);
    // Direct I/O goes on at a block's beginning; what is less than a block is done again.
    const whole = done - (done % this.blockBytes);
    if (whole === this.doneBytes[tag]!) return this.stuck(tag, result);
    this.doneBytes[tag] = whole;
    this.tries[tag] = 0;
    this.move(tag);
  }

  /** Not a block more. A read has met the end of a backing that has shrunk; a write, a full one. */
  private stuck(tag: number, result: number): void {
    const isRead = this.queue.op(tag) === UBLK_IO_OP.READ;
    // The next try of a write says why.
    if (!isRead && result > 0) return this.again(tag, STEP.move);
    if (isRead && !this.isShrinkNoted) {
      this.isShrinkNoted = true;
      const { file } = this.options;
      this.queue.note(`${file} has shrunk: what is read beyond its end fails with EIO`);
    }
    // Never what the memory held before.
    this.queue.complete(tag, -ERRNO.EIO);
  }

  private discard(tag: number): void {
    this.step(tag, this.hasDiscardCommand ? STEP.discardCommand : STEP.discard);
  }

  private writeZeroes(tag: number): void {
    const isKept = (this.queue.flags(tag) & UBLK_IO_F.NOUNMAP) !== 0 || !this.options.mayUnmap;
    this.step(tag, isKept ? STEP.zero : STEP.punch);
  }

  /** Syncs the file, or does to the request's range of it what `step` says. */
  private step(tag: number, step: number): void {
    const { queue } = this;
    const at = queue.ring.sqe();
    // A FLUSH has no range.
    const isRange = step !== STEP.sync;
    const offset = isRange ? this.offsetBytes + queue.offsetBytes(tag) : 0;
    prepStep(queue.ring.sqes, at, FILE, step, offset, isRange ? queue.lengthBytes(tag) : 0);
    this.send(at, tag, step);
  }

  /** Interrupted, or no memory just now: once more. */
  private again(tag: number, step: number): void {
    this.tries[tag] = this.tries[tag]! + 1;
    if (this.tries[tag]! > TRIES_MAX) return this.queue.complete(tag, -ERRNO.EIO);
    if (step === STEP.move) this.move(tag);
    else this.step(tag, step);
  }

  private send(at: number, tag: number, step: number): void {
    // Where the ring's own attempt came to nothing, a kernel thread may wait.
    if (this.tries[tag]! > 0) addFlags(this.queue.ring.sqes, at, IOSQE.ASYNC);
    this.queue.own(at, tag, step);
  }
}
