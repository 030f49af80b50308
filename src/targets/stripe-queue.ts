// One queue of a stripe: a request becomes a part for each member that it touches, a part is one SQE
// (until it comes back short), and the request ends with its last part.

import { RWF } from "../ffi/block.ts";
import { ERRNO } from "../ffi/errno.ts";
import { mapMemory, viewInt32 } from "../ffi/memory.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../ffi/ublk.ts";
import { IOSQE } from "../ffi/uring.ts";
import { addFlags, setRwFlags } from "../ring/ops.ts";
import type { QueueContext, RingHandler } from "../target.ts";
import { isGone } from "./backing-limits.ts";
import { prepStep, STEP, stepAfter } from "./file-steps.ts";
import { NEXT, Parts } from "./parts.ts";
import type { StripeLayout } from "./stripe-layout.ts";

export interface StripeQueueOptions {
  readonly layout: StripeLayout;
  /** Of the members, in order; for the log. */
  readonly files: readonly string[];
  readonly fds: readonly number[];
  /** Which of them are block devices. */
  readonly areDevices: readonly boolean[];
  readonly readOnly: boolean;
  readonly canDiscard: boolean;
  /** False: a zeroed range keeps its space. */
  readonly mayUnmap: boolean;
  /** Backend I/O begins and ends on multiples of it. */
  readonly blockBytes: number;
  /** No request is larger. */
  readonly maxIoBytes: number;
}

/** A step's low bits say what it does, the others to which member. */
const STEP_BITS = 3;
const STEP_MASK = 2 ** STEP_BITS - 1;
const IOVEC_BYTES = 16;
const WORD = 4294967296;

export class StripeQueue implements RingHandler {
  readonly kind = "ring";
  private readonly queue: QueueContext;
  private readonly options: StripeQueueOptions;
  private readonly layout: StripeLayout;
  private readonly members: number;

  // By tag.
  private readonly outstanding: Uint8Array;
  /** The first error of a request's parts. */
  private readonly errors: Int32Array;
  // By part: tag * members + member.
  private readonly parts: Parts;
  /** Which vector is a part's first. */
  private readonly vectorAt: Int32Array;

  /** A request's vectors lie together; mapped for good: the queue lives as long as its process. */
  private readonly vectors: Int32Array;
  private readonly vectorsAddress: number;
  private readonly vectorsPerTag: number;
  /** By member. Before Linux 6.12 a block device takes no discard through the ring. */
  private readonly hasDiscardCommand: boolean[];

  constructor(queue: QueueContext, options: StripeQueueOptions) {
    const { layout, maxIoBytes } = options;
    const { members, chunkBytes } = layout;
    const count = queue.depth * members;
    this.queue = queue;
    this.options = options;
    this.layout = layout;
    this.members = members;
    this.outstanding = new Uint8Array(queue.depth);
    this.errors = new Int32Array(queue.depth);
    const fileOf = (part: number) => options.files[part % members]!;
    const isMemberGone = (part: number) =>
      options.areDevices[part % members]! && isGone(options.fds[part % members]!);
    const { blockBytes } = options;
    this.parts = new Parts(queue, { count, blockBytes, fileOf, isGone: isMemberGone });
    this.vectorAt = new Int32Array(count);
    // One that begins inside a chunk ends inside another.
    this.vectorsPerTag = Math.ceil(maxIoBytes / chunkBytes) + 1;
    const memory = mapMemory(queue.depth * this.vectorsPerTag * IOVEC_BYTES, { noReserve: true });
    this.vectors = viewInt32(memory.address, memory.lengthBytes);
    this.vectorsAddress = memory.address;
    this.hasDiscardCommand = [...options.areDevices];
  }

  start(tag: number): void {
    const { queue, options } = this;
    const op = queue.op(tag);
    this.errors[tag] = 0;
    if (op === UBLK_IO_OP.READ) return this.moveAll(tag);
    if (op === UBLK_IO_OP.FLUSH) return this.syncAll(tag);
    if (options.readOnly) return queue.complete(tag, -ERRNO.EROFS);
    if (op === UBLK_IO_OP.WRITE) return this.moveAll(tag);
    if (op === UBLK_IO_OP.DISCARD && options.canDiscard) return this.rangeAll(tag, STEP.discard);
    if (op === UBLK_IO_OP.WRITE_ZEROES) {
      const isKept = (queue.flags(tag) & UBLK_IO_F.NOUNMAP) !== 0 || !options.mayUnmap;
      return this.rangeAll(tag, isKept ? STEP.zero : STEP.punch);
    }
    queue.complete(tag, -ERRNO.EOPNOTSUPP);
  }

  finish(tag: number, packed: number, result: number): void {
    const member = packed >> STEP_BITS;
    const step = packed & STEP_MASK;
    if (step === STEP.move) return this.moved(tag, member, result);
    const next = this.parts.answered(tag * this.members + member, result);
    if (next === NEXT.again) return this.step(tag, member, step);
    const following = stepAfter(step, next);
    if (following === STEP.discard) this.hasDiscardCommand[member] = false;
    if (following !== STEP.none) return this.step(tag, member, following);
    const isDurable = step === STEP.sync || (this.queue.flags(tag) & UBLK_IO_F.FUA) === 0;
    if (next === NEXT.done && !isDurable) return this.step(tag, member, STEP.sync);
    this.ended(tag, next);
  }

  private moveAll(tag: number): void {
    const { queue, layout } = this;
    const offset = queue.offsetBytes(tag);
    const length = queue.lengthBytes(tag);
    const first = layout.memberAt(offset);
    const count = this.begin(tag, offset, length);
    let vector = tag * this.vectorsPerTag;
    for (let i = 0; i < count; i++) {
      const member = (first + i) % this.members;
      const part = tag * this.members + member;
      const start = layout.memberOffset(offset, member);
      const end = layout.memberOffset(offset + length, member);
      this.parts.begin(part);
      this.vectorAt[part] = vector;
      vector += layout.chunks(start, end - start);
      this.move(tag, member, start, end);
    }
  }

  private rangeAll(tag: number, step: number): void {
    const { queue } = this;
    const offset = queue.offsetBytes(tag);
    const first = this.layout.memberAt(offset);
    const count = this.begin(tag, offset, queue.lengthBytes(tag));
    for (let i = 0; i < count; i++) {
      const member = (first + i) % this.members;
      this.parts.begin(tag * this.members + member);
      const isCommand = step === STEP.discard && this.hasDiscardCommand[member]!;
      this.step(tag, member, isCommand ? STEP.discardCommand : step);
    }
  }

  private syncAll(tag: number): void {
    this.outstanding[tag] = this.members;
    for (let member = 0; member < this.members; member++) {
      this.parts.begin(tag * this.members + member);
      this.step(tag, member, STEP.sync);
    }
  }

  /** How many parts the range has; all of them are under way from now on. */
  private begin(tag: number, offset: number, length: number): number {
    const count = Math.min(this.members, this.layout.chunks(offset, length));
    this.outstanding[tag] = count;
    return count;
  }

  /** Reads or writes what is left of a part: bytes `start` to `end` of a member. */
  private move(tag: number, member: number, start: number, end: number): void {
    const { queue, layout } = this;
    const part = tag * this.members + member;
    const from = start + this.parts.doneBytes[part]!;
    const dataOffset = layout.diskOffset(from, member) - queue.offsetBytes(tag);
    const at = queue.ring.sqe();
    if (layout.chunks(from, end - from) === 1) {
      queue.transfer(at, tag, member, from, dataOffset, end - from);
    } else {
      const first = this.vectorAt[part]!;
      const count = this.fillVectors(tag, first, from, end, dataOffset);
      const address = this.vectorsAddress + first * IOVEC_BYTES;
      queue.transferVector(at, tag, member, from, address, count);
    }
    if ((queue.flags(tag) & UBLK_IO_F.FUA) !== 0 && queue.op(tag) === UBLK_IO_OP.WRITE) {
      setRwFlags(queue.ring.sqes, at, RWF.DSYNC);
    }
    this.send(at, tag, member, STEP.move);
  }

  /**
   * One struct iovec for each chunk; the kernel copies them when the SQE is submitted. What lies
   * together on the member is a row apart in the request.
   */
  private fillVectors(
    tag: number,
    first: number,
    from: number,
    end: number,
    dataOffset: number,
  ): number {
    const { vectors } = this;
    const { chunkBytes, rowBytes } = this.layout;
    let within = from % chunkBytes;
    let left = end - from;
    let address = this.queue.address(tag) + dataOffset;
    let count = 0;
    while (left > 0) {
      const length = Math.min(chunkBytes - within, left);
      const word = (first + count) << 2;
      vectors[word] = address | 0;
      vectors[word + 1] = (address / WORD) | 0;
      vectors[word + 2] = length;
      vectors[word + 3] = 0;
      address += rowBytes - within;
      within = 0;
      left -= length;
      count++;
    }
    return count;
  }

  private moved(tag: number, member: number, result: number): void {
    const { queue, layout } = this;
    const offset = queue.offsetBytes(tag);
    const start = layout.memberOffset(offset, member);
    const end = layout.memberOffset(offset + queue.lengthBytes(tag), member);
    // As nearly always.
    if (result === end - start) return this.ended(tag, NEXT.done);
    const isRead = queue.op(tag) === UBLK_IO_OP.READ;
    const next = this.parts.moved(tag * this.members + member, end - start, result, isRead);
    if (next === NEXT.again) return this.move(tag, member, start, end);
    this.ended(tag, next);
  }

  /** Syncs a member, or does to its range of the request what `step` says. */
  private step(tag: number, member: number, step: number): void {
    const { queue, layout } = this;
    const at = queue.ring.sqe();
    let start = 0;
    let end = 0;
    if (step !== STEP.sync) {
      const offset = queue.offsetBytes(tag);
      start = layout.memberOffset(offset, member);
      end = layout.memberOffset(offset + queue.lengthBytes(tag), member);
    }
    prepStep(queue.ring.sqes, at, member, step, start, end - start);
    this.send(at, tag, member, step);
  }

  private send(at: number, tag: number, member: number, step: number): void {
    const { queue } = this;
    if (this.parts.mayWait(tag * this.members + member)) {
      addFlags(queue.ring.sqes, at, IOSQE.ASYNC);
    }
    queue.own(at, tag, step | (member << STEP_BITS));
  }

  /** A part has ended; with the last one the request does. */
  private ended(tag: number, result: number): void {
    if (result < 0 && this.errors[tag] === 0) this.errors[tag] = result;
    const outstanding = this.outstanding[tag]! - 1;
    this.outstanding[tag] = outstanding;
    if (outstanding > 0) return;
    const { queue } = this;
    const error = this.errors[tag]!;
    if (error < 0) return queue.complete(tag, error);
    const op = queue.op(tag);
    const hasData = op === UBLK_IO_OP.READ || op === UBLK_IO_OP.WRITE;
    queue.complete(tag, hasData ? queue.lengthBytes(tag) : 0);
  }
}
