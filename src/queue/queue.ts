// One hardware queue: fetches every tag, hands requests to the target, commits their results.
//
// Contract with the kernel (ublk_cmd.h): each tag is fetched once; a completed fetch is a request;
// it is committed exactly once, and that commit fetches the tag again. Who holds a tag is one byte.

import { assert, KernelError } from "../errors.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import { UBLK_IO, UBLK_IO_RES, ublksrv_io_cmd } from "../ffi/ublk.ts";
import { io_uring_sqe, IORING_OP, IOSQE } from "../ffi/uring.ts";
import type { OnCompletion, Ring } from "../ring/ring.ts";
import type { QueueContext, RingHandler } from "../target.ts";
import type { Buffers } from "./buffers.ts";
import type { Descriptors } from "./descs.ts";
import { type Order, ORDERS } from "./protocol.ts";
import { KIND, packLo, stepOf, tagOf } from "./tag.ts";

/** Who may touch a tag. */
const OWNER = { kernel: 0, target: 1, kept: 2 } as const;

const CMD = io_uring_sqe.at.cmd >> 2;
const QID_TAG = CMD + (ublksrv_io_cmd.at.q_id >> 2);
const RESULT = CMD + (ublksrv_io_cmd.at.result >> 2);
const ADDR_LO = CMD + (ublksrv_io_cmd.at.addr >> 2);
const ADDR_HI = ADDR_LO + 1;
const FETCH = UBLK_IO.FETCH_REQ | 0;
const COMMIT = UBLK_IO.COMMIT_AND_FETCH_REQ | 0;
const GET_DATA = UBLK_IO.NEED_GET_DATA | 0;
const URING_CMD = IORING_OP.URING_CMD | (IOSQE.FIXED_FILE << 8);
const ABORTED = -ERRNO.ENODEV;

export interface QueueOptions {
  readonly id: number;
  readonly depth: number;
  readonly ring: Ring;
  /** The open /dev/ublkcN: its place among the ring's registered files. */
  readonly charFile: number;
  readonly descriptors: Descriptors;
  readonly buffers: Buffers;
  /** Which of the queues that share a ring this is; `laneOf` finds it in a completion. Default 0. */
  readonly lane?: number;
  /** The main thread has something to say. */
  readonly onOrder: (order: Order) => void;
  /** A line for the daemon's log. */
  readonly onNote: (text: string) => void;
}

// TypeScript's `private`, not `#`: every #field access grows the bytecode, and the engine stops
// inlining functions that are too large. The same in the other files of the data path.
export class Queue implements QueueContext {
  readonly id: number;
  readonly depth: number;
  readonly ring: Ring;
  /** Requests completed since the start, for tests and for the curious. */
  served = 0;
  /** The negative errno with which the kernel refused a FETCH or a commit, or 0. */
  failure = 0;

  protected readonly charFile: number;
  private readonly lane: number;
  private readonly descriptors: Descriptors;
  private readonly buffers: Buffers;
  private readonly owner: Uint8Array;
  protected readonly addressLo: Int32Array;
  protected readonly addressHi: Int32Array;
  private readonly registration: Int32Array;
  private readonly onOrder: (order: Order) => void;
  private readonly onNote: (text: string) => void;
  private handler: RingHandler | undefined;
  private withTarget = 0;
  /** Requests completed whose commit the kernel has still to confirm, where it does (batch.ts). */
  protected uncommitted = 0;
  protected ending = false;
  private takenBack = 0;
  protected draining = false;
  private leaving = false;

  constructor(options: QueueOptions) {
    this.id = options.id;
    this.depth = options.depth;
    this.ring = options.ring;
    this.charFile = options.charFile;
    this.lane = packLo(0, options.lane ?? 0);
    this.descriptors = options.descriptors;
    this.buffers = options.buffers;
    this.onOrder = options.onOrder;
    this.onNote = options.onNote;
    this.owner = new Uint8Array(options.depth);
    this.addressLo = new Int32Array(options.depth);
    this.addressHi = new Int32Array(options.depth);
    this.registration = new Int32Array(options.depth);
    for (let tag = 0; tag < options.depth; tag++) {
      this.setAddress(tag);
      this.registration[tag] = options.buffers.registration(tag);
    }
  }

  /** Queues one FETCH per tag; they leave with the next submit. Call once, on the serving thread. */
  prime(handler: RingHandler): void {
    assert(this.handler === undefined, `queue ${this.id} is primed once`);
    this.handler = handler;
    this.fetchAll(handler);
  }

  /**
   * Queues the commits that wait for the end of the round. Returns how many completions are only going
   * to confirm them: a round need not end for those.
   */
  flush(): number {
    return 0; // Each has been queued for itself.
  }

  /** Lets another handler start the requests that come from now on. */
  serveWith(handler: RingHandler): void {
    this.handler = handler;
  }

  /** Answers what is with the target, and all that comes, with EIO: the disk is being taken back. */
  refuse(): void {
    this.serveWith({
      kind: "ring",
      start: (tag) => this.complete(tag, -ERRNO.EIO),
      finish: () => {},
    });
    for (let tag = 0; tag < this.depth; tag++) {
      if (this.owner[tag] === OWNER.target) this.complete(tag, -ERRNO.EIO);
    }
  }

  /** From now on new requests are kept unstarted. */
  drain(): void {
    this.draining = true;
  }

  /** Takes `drain` back: what was kept is started. */
  stay(): void {
    this.draining = false;
    for (let tag = 0; tag < this.depth; tag++) {
      if (this.owner[tag] === OWNER.kept) this.begin(tag);
    }
  }

  /** Drains, and then is finished: the kernel delivers what was kept again, to the next server. */
  leave(): void {
    this.draining = true;
    this.leaving = true;
  }

  /** True when new requests are kept and every earlier one has been answered. */
  get drained(): boolean {
    return this.draining && this.withTarget === 0 && this.uncommitted === 0;
  }

  /** The disk is gone: once all is answered, nothing is left to do. */
  end(): void {
    this.ending = true;
  }

  /** True when it was told to leave. */
  get isLetGo(): boolean {
    return this.leaving;
  }

  /** True when nothing is left to do: the kernel has taken its tags back, or we are letting go. */
  get finished(): boolean {
    return (this.ending || this.leaving) && this.withTarget === 0 && this.uncommitted === 0;
  }

  /** True while the kernel has taken back some of the tags it holds, and not yet all. */
  get isBeingTakenBack(): boolean {
    if (!this.ending) return false;
    const kept = this.owner.reduce((sum, owner) => sum + (owner === OWNER.kept ? 1 : 0), 0);
    return this.takenBack + kept < this.depth;
  }

  /** For `ring.reap`. */
  readonly onCompletion: OnCompletion = (lo, hi, result, flags) => {
    if (hi === KIND.ublk) this.delivered(tagOf(lo), result);
    else if (hi === KIND.target) this.handler!.finish(tagOf(lo), stepOf(lo), result);
    else if (hi === KIND.wake) this.onOrder(ORDERS[lo]!);
    else if (hi === KIND.mode) this.modeFailed(lo, result);
    else if (hi === KIND.batch) this.batchDone(lo, result, flags);
    else assert(false, `queue ${this.id}: completion of unknown kind ${hi}`);
  };

  op(tag: number): number {
    return this.descriptors.op(tag);
  }

  flags(tag: number): number {
    return this.descriptors.flags(tag);
  }

  offsetBytes(tag: number): number {
    return this.descriptors.offsetBytes(tag);
  }

  lengthBytes(tag: number): number {
    return this.descriptors.lengthBytes(tag);
  }

  address(tag: number): number {
    return this.buffers.address(tag);
  }

  transfer(
    sqe: number,
    tag: number,
    file: number,
    fileOffset: number,
    dataOffset: number,
    lengthBytes: number,
  ): void {
    this.buffers.transfer(sqe, tag, file, fileOffset, dataOffset, lengthBytes);
  }

  transferVector(
    sqe: number,
    tag: number,
    file: number,
    fileOffset: number,
    vectors: number,
    count: number,
  ): void {
    this.buffers.transferVector(sqe, tag, file, fileOffset, vectors, count);
  }

  note(text: string): void {
    this.onNote(text);
  }

  own(sqe: number, tag: number, step: number): void {
    const sqes = this.ring.sqes;
    sqes[sqe + 8] = packLo(tag, step);
    sqes[sqe + 9] = KIND.target;
  }

  complete(tag: number, result: number): void {
    assert(this.owner[tag] === OWNER.target, "a request is completed exactly once");
    this.owner[tag] = OWNER.kernel;
    this.withTarget = (this.withTarget - 1) | 0;
    this.served = (this.served + 1) | 0;
    this.commit(tag, this.buffers.end(tag, result));
  }

  submit(): void {
    this.flush();
    this.ring.submit();
  }

  protected fetchAll(handler: RingHandler): void {
    for (let tag = 0; tag < this.depth; tag++) {
      handler.fetching?.(tag);
      this.command(FETCH, tag, 0);
    }
  }

  protected commit(tag: number, result: number): void {
    this.command(COMMIT, tag, result);
  }

  protected batchDone(_step: number, _result: number, _flags: number): void {
    assert(false, `queue ${this.id} has batch commands`);
  }

  /**
   * Somebody may still use the tag's buffer: from its next commit on, which must be the very next
   * step, it has another one. Only where data is copied to an address.
   */
  replaceBuffer(tag: number): void {
    this.buffers.replace(tag);
    this.setAddress(tag);
  }

  private setAddress(tag: number): void {
    const address = this.buffers.commandAddress(tag);
    this.addressLo[tag] = address | 0;
    this.addressHi[tag] = Math.floor(address / 4294967296);
  }

  private delivered(tag: number, result: number): void {
    if (result === 0) {
      this.arrived(tag);
    } else if (result === UBLK_IO_RES.NEED_GET_DATA) {
      // A write that asks for its buffer; it comes back with its data, or asks again.
      this.command(GET_DATA, tag, 0);
    } else if (result === ABORTED) {
      // STOP, quiesce or a dying ring: the tag is not fetched again.
      this.ending = true;
      this.takenBack = (this.takenBack + 1) | 0;
    } else if (this.failure === 0) {
      this.failure = result;
    }
  }

  protected arrived(tag: number): void {
    assert(this.owner[tag] === OWNER.kernel, "a request arrives on a tag the kernel holds");
    if (this.draining) this.owner[tag] = OWNER.kept;
    else this.begin(tag);
  }

  private begin(tag: number): void {
    this.owner[tag] = OWNER.target;
    this.withTarget = (this.withTarget + 1) | 0;
    const refused = this.buffers.begin(tag);
    if (refused < 0) this.complete(tag, refused);
    else this.handler!.start(tag);
  }

  private modeFailed(lo: number, result: number): void {
    const step = stepOf(lo);
    const isExpected = this.buffers.failed(tagOf(lo), step, result);
    assert(isExpected, `queue ${this.id}: step ${step} of the data mode failed: ${result}`);
  }

  /** Writes all 16 words of a FETCH, COMMIT_AND_FETCH or NEED_GET_DATA. */
  private command(operation: number, tag: number, result: number): void {
    const at = this.ring.sqe();
    const sqes = this.ring.sqes;
    sqes[at] = URING_CMD;
    sqes[at + 1] = this.charFile;
    sqes[at + 2] = operation;
    sqes[at + 3] = 0;
    sqes[at + 4] = this.registration[tag]!;
    sqes[at + 5] = 0;
    sqes[at + 6] = 0;
    sqes[at + 7] = 0;
    sqes[at + 8] = tag | this.lane;
    sqes[at + 9] = KIND.ublk;
    sqes[at + 10] = 0;
    sqes[at + 11] = 0;
    sqes[at + QID_TAG] = this.id | (tag << 16);
    sqes[at + RESULT] = result;
    sqes[at + ADDR_LO] = this.addressLo[tag]!;
    sqes[at + ADDR_HI] = this.addressHi[tag]!;
  }
}

/** Throws KernelError when the kernel has refused a FETCH or commit of this queue. */
export function assertNotRefused({ id, failure }: Pick<Queue, "id" | "failure">): void {
  if (failure === 0) return;
  const message = `queue ${id}: the kernel refused a FETCH or commit: ${errnoName(-failure)}`;
  throw new KernelError(message, -failure);
}
