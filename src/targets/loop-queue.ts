// One queue of a loop disk: requests become SQEs on the backing, short ones are finished.

import { BLOCK_URING_CMD_DISCARD, FALLOC_FL, RWF } from "../ffi/block.ts";
import { ERRNO } from "../ffi/errno.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../ffi/ublk.ts";
import { io_uring_sqe, IORING_FSYNC, IOSQE } from "../ffi/uring.ts";
import { addFlags, prepFallocate, prepFsync, prepUringCmd, setRwFlags } from "../ring/ops.ts";
import type { QueueContext, RingHandler } from "../target.ts";

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

/** What an SQE of ours does. */
const STEP = { move: 0, sync: 1, discard: 2, punch: 3, zero: 4 } as const;

/** Position of the backing in the registered files. */
const FILE = 0;
const PUNCH = FALLOC_FL.PUNCH_HOLE | FALLOC_FL.KEEP_SIZE;
const ZERO = FALLOC_FL.ZERO_RANGE | FALLOC_FL.KEEP_SIZE;
/** A backing that says "again" for ever is broken. */
const TRIES_MAX = 100;
const ADDR = io_uring_sqe.at.addr >> 2;
const ADDR3 = io_uring_sqe.at.addr3 >> 2;

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
    if (op === UBLK_IO_OP.FLUSH) return this.sync(tag);
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
      if (step === STEP.discard && this.hasDiscardCommand) {
        this.hasDiscardCommand = false;
        return this.discard(tag);
      }
      if (step === STEP.punch) return this.range(tag, STEP.zero);
    }
    const isDurable = step === STEP.sync || (this.queue.flags(tag) & UBLK_IO_F.FUA) === 0;
    if (result >= 0 && !isDurable) return this.sync(tag);
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
      const where = this.offsetBytes + this.queue.offsetBytes(tag) + this.doneBytes[tag]!;
      this.queue.note(`${file} ends before byte ${where}: it has shrunk; answered with EIO`);
    }
    // Never what the memory held before.
    this.queue.complete(tag, -ERRNO.EIO);
  }

  private sync(tag: number): void {
    const at = this.queue.ring.sqe();
    prepFsync(this.queue.ring.sqes, at, FILE, IORING_FSYNC.DATASYNC);
    this.sendToFile(at, tag, STEP.sync);
  }

  private discard(tag: number): void {
    if (!this.hasDiscardCommand) return this.range(tag, STEP.discard);
    const { queue } = this;
    const at = queue.ring.sqe();
    const { sqes } = queue.ring;
    const offset = this.offsetBytes + queue.offsetBytes(tag);
    const length = queue.lengthBytes(tag);
    prepUringCmd(sqes, at, FILE, BLOCK_URING_CMD_DISCARD);
    sqes[at + ADDR] = offset | 0;
    sqes[at + ADDR + 1] = Math.floor(offset / 4294967296);
    sqes[at + ADDR3] = length | 0;
    sqes[at + ADDR3 + 1] = Math.floor(length / 4294967296);
    this.sendToFile(at, tag, STEP.discard);
  }

  private writeZeroes(tag: number): void {
    const isKept = (this.queue.flags(tag) & UBLK_IO_F.NOUNMAP) !== 0 || !this.options.mayUnmap;
    this.range(tag, isKept ? STEP.zero : STEP.punch);
  }

  /** Zeroes the request's range; all but STEP.zero give its space back. */
  private range(tag: number, step: number): void {
    const { queue } = this;
    const at = queue.ring.sqe();
    const offset = this.offsetBytes + queue.offsetBytes(tag);
    const mode = step === STEP.zero ? ZERO : PUNCH;
    prepFallocate(queue.ring.sqes, at, FILE, mode, offset, queue.lengthBytes(tag));
    this.sendToFile(at, tag, step);
  }

  /** Interrupted, or no memory just now: once more. */
  private again(tag: number, step: number): void {
    this.tries[tag] = this.tries[tag]! + 1;
    if (this.tries[tag]! > TRIES_MAX) return this.queue.complete(tag, -ERRNO.EIO);
    if (step === STEP.move) this.move(tag);
    else if (step === STEP.sync) this.sync(tag);
    else if (step === STEP.discard) this.discard(tag);
    else this.range(tag, step);
  }

  private sendToFile(at: number, tag: number, step: number): void {
    addFlags(this.queue.ring.sqes, at, IOSQE.FIXED_FILE);
    this.send(at, tag, step);
  }

  private send(at: number, tag: number, step: number): void {
    // Where the ring's own attempt came to nothing, a kernel thread may wait.
    if (this.tries[tag]! > 0) addFlags(this.queue.ring.sqes, at, IOSQE.ASYNC);
    this.queue.own(at, tag, step);
  }
}
