// One queue of a loop disk: requests become SQEs on the backing, short ones are finished.

import { RWF } from "../ffi/block.ts";
import { ERRNO } from "../ffi/errno.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../ffi/ublk.ts";
import { IOSQE } from "../ffi/uring.ts";
import { addFlags, setRwFlags } from "../ring/ops.ts";
import type { QueueContext, RingHandler } from "../target.ts";
import { isGone } from "./backing-limits.ts";
import { prepStep, STEP, stepAfter } from "./file-steps.ts";
import { NEXT, Parts } from "./parts.ts";

export interface LoopQueueOptions {
  /** For the log. */
  readonly file: string;
  readonly offsetBytes: number;
  readonly readOnly: boolean;
  readonly isDevice: boolean;
  readonly fd: number;
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
  /** A request is one part, its tag's. */
  private readonly parts: Parts;
  /** Before Linux 6.12 a block device takes no discard through the ring. */
  private hasDiscardCommand: boolean;

  constructor(queue: QueueContext, options: LoopQueueOptions) {
    this.queue = queue;
    this.options = options;
    this.offsetBytes = options.offsetBytes;
    const { file, fd, isDevice, blockBytes } = options;
    this.parts = new Parts(queue, {
      count: queue.depth,
      blockBytes,
      fileOf: () => file,
      isGone: () => isDevice && isGone(fd),
    });
    this.hasDiscardCommand = options.isDevice;
  }

  start(tag: number): void {
    const op = this.queue.op(tag);
    this.parts.begin(tag);
    if (op === UBLK_IO_OP.READ) return this.move(tag);
    if (op === UBLK_IO_OP.FLUSH) return this.step(tag, STEP.sync);
    if (this.options.readOnly) return this.queue.complete(tag, -ERRNO.EROFS);
    if (op === UBLK_IO_OP.WRITE) return this.move(tag);
    if (op === UBLK_IO_OP.DISCARD && this.options.canDiscard) return this.discard(tag);
    if (op === UBLK_IO_OP.WRITE_ZEROES) return this.writeZeroes(tag);
    this.queue.complete(tag, -ERRNO.EOPNOTSUPP);
  }

  finish(tag: number, step: number, result: number): void {
    if (step === STEP.move) return this.moved(tag, result);
    const { queue } = this;
    const next = this.parts.answered(tag, result);
    if (next === NEXT.again) return this.step(tag, step);
    const following = stepAfter(step, next);
    if (following === STEP.discard) this.hasDiscardCommand = false;
    if (following !== STEP.none) return this.step(tag, following);
    const isDurable = step === STEP.sync || (queue.flags(tag) & UBLK_IO_F.FUA) === 0;
    if (next === NEXT.done && !isDurable) return this.step(tag, STEP.sync);
    queue.complete(tag, next);
  }

  /** Reads or writes what is left of the request. */
  private move(tag: number): void {
    const { queue } = this;
    const done = this.parts.doneBytes[tag]!;
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
    const lengthBytes = queue.lengthBytes(tag);
    // As nearly always.
    if (result === lengthBytes) return queue.complete(tag, lengthBytes);
    const isRead = queue.op(tag) === UBLK_IO_OP.READ;
    const next = this.parts.moved(tag, lengthBytes, result, isRead);
    if (next === NEXT.again) return this.move(tag);
    queue.complete(tag, next === NEXT.done ? lengthBytes : next);
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

  private send(at: number, tag: number, step: number): void {
    if (this.parts.mayWait(tag)) addFlags(this.queue.ring.sqes, at, IOSQE.ASYNC);
    this.queue.own(at, tag, step);
  }
}
