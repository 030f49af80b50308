// The same queue by batch commands (UBLK_F_BATCH_IO, Linux 7.0): one COMMIT for all answers of a round,
// and one FETCH for good, whose completions bring the tags of new requests.
//
//   PREP     once: all tags of the queue, or none
//   FETCH    again and again: ends with ENOBUFS when our buffers are full (the kernel keeps the tags), with
//            ENODEV when the kernel takes the queue back
//   COMMIT   says how many bytes of elements it has taken: what it has not is sent again
//
// The driver carries a COMMIT out inside io_uring_enter, so that its confirmation is there when the call
// returns: one COMMIT is under way at a time, and the answers given meanwhile are collected behind it.

import { assert } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";
import { UBLK_BATCH_F, ublk_batch_io, ublk_elem_header, UBLK_IO } from "../ffi/ublk.ts";
import {
  io_uring_sqe,
  IORING_CQE_BUFFER_SHIFT,
  IORING_CQE_F,
  IORING_OP,
  IORING_URING_CMD,
  IOSQE,
} from "../ffi/uring.ts";
import type { RingHandler } from "../target.ts";
import { type BatchMemory, TAG_GROUP } from "./batch-memory.ts";
import type { Mode } from "./protocol.ts";
import { Queue, type QueueOptions } from "./queue.ts";
import { KIND } from "./tag.ts";

export interface BatchOptions extends QueueOptions {
  readonly mode: Mode;
  readonly memory: BatchMemory;
}

const CMD = io_uring_sqe.at.cmd >> 2;
const QID_FLAGS = CMD + (ublk_batch_io.at.q_id >> 2);
const COUNT_BYTES = CMD + (ublk_batch_io.at.nr_elem >> 2);
const RESULT = ublk_elem_header.at.result >> 2;
const HEADER_BYTES = ublk_elem_header.sizeBytes;
const TAG_BYTES = 2;
const PREP = UBLK_IO.PREP_IO_CMDS | 0;
const COMMIT = UBLK_IO.COMMIT_IO_CMDS | 0;
const FETCH = UBLK_IO.FETCH_IO_CMDS | 0;
const URING_CMD = IORING_OP.URING_CMD | (IOSQE.FIXED_FILE << 8);
const FETCH_CMD = URING_CMD | (IOSQE.BUFFER_SELECT << 8);
const STEP = { prep: 1, commit: 2, fetch: 3 } as const;

export class BatchQueue extends Queue {
  private readonly memory: BatchMemory;
  private readonly elements: Int32Array;
  private readonly hasAddress: boolean;
  private readonly elementWords: number;
  private readonly commandFlags: number;
  /** Words at which the half begins that is being filled; the elements in it. */
  private half = 0;
  private filled = 0;
  /** The elements under way: where they begin, how many the kernel has not taken yet. */
  private sentAt = 0;
  private sent = 0;
  /** What the elements that are being filled become: a PREP until all tags are fetched. */
  private operation = PREP;
  private step: number = STEP.prep;

  constructor(options: BatchOptions) {
    super(options);
    const { mode, memory } = options;
    this.memory = memory;
    this.elements = memory.elements;
    this.hasAddress = mode === "copy";
    this.elementWords = (HEADER_BYTES >> 2) + (this.hasAddress ? 2 : 0);
    this.commandFlags =
      (this.hasAddress ? UBLK_BATCH_F.HAS_BUF_ADDR : 0) |
      (mode === "auto-zc-fallback" ? UBLK_BATCH_F.AUTO_BUF_REG_FALLBACK : 0);
  }

  override flush(): number {
    if (this.sent === 0 && this.filled > 0) this.sendFilled();
    // Where nothing new need come any more, the confirmation is what is waited for.
    return this.sent > 0 && !this.draining && !this.ending ? 1 : 0;
  }

  /** The one FETCH comes back at once: there is nothing half-way. */
  override get isBeingTakenBack(): boolean {
    return false;
  }

  protected override fetchAll(handler: RingHandler): void {
    for (let tag = 0; tag < this.depth; tag++) {
      handler.fetching?.(tag);
      this.add(tag, 0);
    }
    // In this order: during a recovery a FETCH before it is refused.
    if (this.filled > 0) this.sendFilled();
    this.operation = COMMIT;
    this.step = STEP.commit;
    this.fetch();
  }

  protected override commit(tag: number, result: number): void {
    this.uncommitted = (this.uncommitted + 1) | 0;
    this.add(tag, result);
  }

  protected override batchDone(step: number, result: number, flags: number): void {
    if (step === STEP.fetch) this.fetched(result, flags);
    else if (result < 0) this.fail(result);
    else if (step === STEP.commit) this.committed(result);
    else this.sent = 0;
  }

  private fetched(result: number, flags: number): void {
    if ((flags & IORING_CQE_F.BUFFER) !== 0) {
      const buffer = flags >>> IORING_CQE_BUFFER_SHIFT;
      const { tags } = this.memory;
      const first = this.memory.firstTag(buffer);
      const end = (first + (result > 0 ? result / TAG_BYTES : 0)) | 0;
      for (let i = first; i < end; i++) this.arrived(tags[i]!);
      this.memory.giveBack(buffer);
    }
    if (result === -ERRNO.ENODEV) this.ending = true;
    else if (result < 0 && result !== -ERRNO.ENOBUFS) this.fail(result);
    else if ((flags & IORING_CQE_F.MORE) === 0) this.fetch();
  }

  private committed(result: number): void {
    const taken = result >> (this.hasAddress ? 4 : 3);
    assert(taken <= this.sent, "the kernel takes no more elements than it is sent");
    this.uncommitted = (this.uncommitted - taken) | 0;
    this.sent = (this.sent - taken) | 0;
    if (this.sent === 0) return;
    // It has stopped at an element that it refuses. Sent first, that one brings its errno.
    if (taken === 0) return this.fail(-ERRNO.EIO);
    this.sentAt = (this.sentAt + taken * this.elementWords) | 0;
    this.send();
  }

  private fail(result: number): void {
    if (this.failure === 0) this.failure = result;
  }

  private add(tag: number, result: number): void {
    const elements = this.elements;
    const at = (this.half + this.filled * this.elementWords) | 0;
    this.filled = (this.filled + 1) | 0;
    elements[at] = tag | (tag << 16); // Its place in the table of buffers is its own number, too.
    elements[at + RESULT] = result;
    if (!this.hasAddress) return;
    elements[at + 2] = this.addressLo[tag]!;
    elements[at + 3] = this.addressHi[tag]!;
  }

  /** The half that has been filled goes under way, the other one is filled next. */
  private sendFilled(): void {
    this.sentAt = this.half;
    this.sent = this.filled;
    this.half = this.memory.halfWords - this.half;
    this.filled = 0;
    this.send();
  }

  /** Writes all 16 words of a PREP or COMMIT of the elements under way. */
  private send(): void {
    const at = this.ring.sqe();
    const sqes = this.ring.sqes;
    const address = this.memory.elementsAddress + this.sentAt * 4;
    sqes[at] = URING_CMD;
    sqes[at + 1] = this.charFile;
    sqes[at + 2] = this.operation;
    sqes[at + 3] = 0;
    sqes[at + 4] = address | 0;
    sqes[at + 5] = (address / 4294967296) | 0;
    sqes[at + 6] = 0;
    sqes[at + 7] = 0;
    sqes[at + 8] = this.step;
    sqes[at + 9] = KIND.batch;
    sqes[at + 10] = 0;
    sqes[at + 11] = 0;
    sqes[at + QID_FLAGS] = this.id | (this.commandFlags << 16);
    sqes[at + COUNT_BYTES] = this.sent | (this.elementWords << 18);
    sqes[at + 14] = 0;
    sqes[at + 15] = 0;
  }

  private fetch(): void {
    const at = this.ring.sqe();
    const sqes = this.ring.sqes;
    sqes.fill(0, at, at + 16);
    sqes[at] = FETCH_CMD;
    sqes[at + 1] = this.charFile;
    sqes[at + 2] = FETCH;
    sqes[at + 7] = IORING_URING_CMD.MULTISHOT;
    sqes[at + 8] = STEP.fetch;
    sqes[at + 9] = KIND.batch;
    sqes[at + 10] = TAG_GROUP;
    sqes[at + QID_FLAGS] = this.id;
    sqes[at + COUNT_BYTES] = TAG_BYTES << 16;
  }
}
