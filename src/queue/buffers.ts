// How a request's data is reached: the data modes of the driver, and the only file that knows them.
//
//   copy, get-data        the kernel copies between the request and the tag's buffer
//   user-copy             we do, by pread and pwrite on the char device
//   zero-copy             the request's own pages are a fixed buffer of the ring: registered before
//                         the target sees the request, unregistered after
//   auto-zc[-fallback]    the same, registered by the kernel; with fallback by us where it could not
//
// A queue calls `begin` before its target sees a request and `end` when the target is done with it.

import { ERRNO } from "../ffi/errno.ts";
import { pread, pwrite } from "../ffi/libc.ts";
import {
  UBLK_AUTO_BUF_REG,
  UBLK_IO,
  UBLK_IO_F,
  UBLK_IO_OP,
  UBLK_QID,
  UBLK_TAG,
  UBLKSRV,
  ublksrv_io_cmd,
} from "../ffi/ublk.ts";
import { io_uring_sqe, IORING_OP, IOSQE } from "../ffi/uring.ts";
import { addFlags, prepTransfer, prepUringCmd, setUserData } from "../ring/ops.ts";
import type { Ring } from "../ring/ring.ts";
import type { QueueContext } from "../target.ts";
import type { Descriptors } from "./descs.ts";
import type { Mode } from "./protocol.ts";
import { TagMemory } from "./tag-memory.ts";
import { KIND, packLo } from "./tag.ts";

/** Reserved before the device is touched: what can fail for want of memory. */
export interface ReserveOptions {
  readonly mode: Mode;
  readonly ring: Ring;
  readonly depth: number;
  /** max_io_buf_bytes of the device. */
  readonly bytesPerTag: number;
  /** What the target needs of a request's data. */
  readonly data: "none" | "transfer" | "address";
}

/** What a mode works with once the device is open. */
export interface ModeOptions extends ReserveOptions {
  readonly memory: TagMemory | undefined;
  readonly queueId: number;
  /** The open /dev/ublkcN. */
  readonly charFd: number;
  /** Its place among the ring's registered files. */
  readonly charFile: number;
  readonly descriptors: Pick<Descriptors, "op" | "flags" | "lengthBytes">;
}

/** One queue's way to its requests' data. Nothing in it allocates or throws per request. */
export interface Buffers extends Pick<QueueContext, "address" | "transfer" | "transferVector"> {
  /** `addr` of FETCH, commit and NEED_GET_DATA: where the kernel copies; 0 where it does not. */
  commandAddress(tag: number): number;
  /** `sqe.addr` of FETCH and commit: the packed ublk_auto_buf_reg, or 0. */
  registration(tag: number): number;
  /** A request has arrived: 0, or the negative errno that it fails with unseen by the target. */
  begin(tag: number): number;
  /** The target is done with it: what to commit. */
  end(tag: number, result: number): number;
  /** The tag's buffer is not safe any more: another takes its place, from the next commit on. */
  replace(tag: number): void;
  /** One of the mode's own SQEs has failed. False: that must not happen, the queue is lost. */
  failed(tag: number, step: number, result: number): boolean;
}

/** Most SQEs that a mode adds to a request, commit excepted; the rings are sized by it. */
export const MODE_SQES_MAX = 2;

const READ = IORING_OP.READ | (IOSQE.FIXED_FILE << 8);
const WRITE = IORING_OP.WRITE | (IOSQE.FIXED_FILE << 8);
const READV = IORING_OP.READV | (IOSQE.FIXED_FILE << 8);
const WRITEV = IORING_OP.WRITEV | (IOSQE.FIXED_FILE << 8);
const READ_FIXED = IORING_OP.READ_FIXED | (IOSQE.FIXED_FILE << 8);
const WRITE_FIXED = IORING_OP.WRITE_FIXED | (IOSQE.FIXED_FILE << 8);
const READV_FIXED = IORING_OP.READV_FIXED | (IOSQE.FIXED_FILE << 8);
const WRITEV_FIXED = IORING_OP.WRITEV_FIXED | (IOSQE.FIXED_FILE << 8);

const isRegistered = (mode: Mode) =>
  mode === "zero-copy" || mode === "auto-zc" || mode === "auto-zc-fallback";

/** Memory or buffer table for a queue. Throws UblkError where they do not fit. */
export function reserveBuffers(options: ReserveOptions): TagMemory | undefined {
  const { mode, ring, depth, bytesPerTag, data } = options;
  if (!isRegistered(mode)) return new TagMemory({ depth, bytesPerTag, shared: data === "none" });
  ring.registerBuffersSparse(depth);
  return undefined;
}

/** The mode's own way to the data. */
export function openBuffers(options: ModeOptions): Buffers {
  if (isRegistered(options.mode)) return new RegisteredBuffers(options);
  return options.mode === "user-copy" ? new UserCopyBuffers(options) : new CopyBuffers(options);
}

/** copy and get-data: the kernel has copied before we look, and copies when we commit. */
class CopyBuffers implements Buffers {
  protected readonly memory: TagMemory;
  protected readonly descriptors: ModeOptions["descriptors"];
  private readonly ring: Ring;

  constructor({ memory, ring, descriptors }: ModeOptions) {
    this.memory = memory!;
    this.ring = ring;
    this.descriptors = descriptors;
  }

  commandAddress(tag: number): number {
    return this.memory.address(tag);
  }

  registration(_tag: number): number {
    return 0;
  }

  address(tag: number): number {
    return this.memory.address(tag);
  }

  begin(_tag: number): number {
    return 0;
  }

  end(_tag: number, result: number): number {
    return result;
  }

  replace(tag: number): void {
    this.memory.replace(tag);
  }

  transfer(
    sqe: number,
    tag: number,
    file: number,
    fileOffset: number,
    dataOffset: number,
    lengthBytes: number,
  ): void {
    const operation = this.descriptors.op(tag) === UBLK_IO_OP.WRITE ? WRITE : READ;
    const address = this.memory.address(tag) + dataOffset;
    prepTransfer(this.ring.sqes, sqe, operation, file, fileOffset, address, lengthBytes, 0);
  }

  transferVector(
    sqe: number,
    tag: number,
    file: number,
    fileOffset: number,
    vectors: number,
    count: number,
  ): void {
    const operation = this.descriptors.op(tag) === UBLK_IO_OP.WRITE ? WRITEV : READV;
    prepTransfer(this.ring.sqes, sqe, operation, file, fileOffset, vectors, count, 0);
  }

  failed(_tag: number, _step: number, _result: number): boolean {
    return false;
  }
}

const QUEUE_SPAN = 2 ** UBLK_QID.OFF;
const TAG_SPAN = 2 ** UBLK_TAG.OFF;

/**
 * user-copy. The calls are synchronous on purpose: they are a copy between two places in memory, and
 * the char device has no non-blocking read, so that the ring would give each to a kernel thread.
 */
class UserCopyBuffers extends CopyBuffers {
  private readonly charFd: number;
  private readonly basePosition: number;
  private readonly isWanted: boolean;

  constructor(options: ModeOptions) {
    super(options);
    this.charFd = options.charFd;
    this.basePosition = UBLKSRV.IO_BUF_OFFSET + options.queueId * QUEUE_SPAN;
    this.isWanted = options.data !== "none";
  }

  override commandAddress(_tag: number): number {
    return 0;
  }

  override begin(tag: number): number {
    if (this.descriptors.op(tag) !== UBLK_IO_OP.WRITE || !this.isWanted) return 0;
    const lengthBytes = this.descriptors.lengthBytes(tag);
    const position = this.basePosition + tag * TAG_SPAN;
    const copied = pread(this.charFd, this.memory.address(tag), lengthBytes, position);
    return copied === lengthBytes ? 0 : -ERRNO.EIO;
  }

  override end(tag: number, result: number): number {
    if (result <= 0 || this.descriptors.op(tag) !== UBLK_IO_OP.READ || !this.isWanted)
      return result;
    const position = this.basePosition + tag * TAG_SPAN;
    const copied = pwrite(this.charFd, this.memory.address(tag), result, position);
    // Less than all of it would reach the application as old memory.
    return copied === result ? result : -ERRNO.EIO;
  }
}

const CMD = io_uring_sqe.at.cmd >> 2;
const QID_TAG = CMD + (ublksrv_io_cmd.at.q_id >> 2);
const INDEX = CMD + (ublksrv_io_cmd.at.addr >> 2);
const REGISTER = UBLK_IO.REGISTER_IO_BUF | 0;
const UNREGISTER = UBLK_IO.UNREGISTER_IO_BUF | 0;
const STEP = { register: 1, unregister: 2 } as const;

/** What the registration of a tag's request is. */
const SLOT = {
  empty: 0,
  /** We have sent REGISTER. */
  ours: 1,
  /** It was refused. */
  refused: 2,
  /** It was refused, and UNREGISTER was on its way already: that will be refused too. */
  neverWas: 3,
} as const;

/**
 * zero-copy, auto-zc, auto-zc-fallback: slot `tag` of the ring's buffer table holds the request's
 * pages while the target has it.
 *
 * REGISTER needs no link to the I/O behind it: the driver answers it inside io_uring_enter, in the
 * order of submission, so the slot is filled before the target's SQEs are looked at; if it was refused
 * they find it empty and fail with EFAULT. UNREGISTER leaves together with the commit, once the
 * target's last SQE is back.
 */
class RegisteredBuffers implements Buffers {
  private readonly ring: Ring;
  private readonly descriptors: ModeOptions["descriptors"];
  private readonly charFile: number;
  private readonly queueId: number;
  private readonly isWanted: boolean;
  private readonly isAuto: boolean;
  private readonly autoFlags: number;
  private readonly slots: Uint8Array;

  constructor({ mode, ring, descriptors, charFile, queueId, depth, data }: ModeOptions) {
    this.ring = ring;
    this.descriptors = descriptors;
    this.charFile = charFile;
    this.queueId = queueId;
    this.isWanted = data !== "none";
    this.isAuto = mode !== "zero-copy";
    this.autoFlags = mode === "auto-zc-fallback" ? UBLK_AUTO_BUF_REG.FALLBACK << 16 : 0;
    this.slots = new Uint8Array(depth);
  }

  commandAddress(_tag: number): number {
    return 0;
  }

  registration(tag: number): number {
    return this.isAuto ? tag | this.autoFlags : 0;
  }

  address(_tag: number): number {
    return 0;
  }

  begin(tag: number): number {
    const op = this.descriptors.op(tag);
    if (!this.isWanted || (op !== UBLK_IO_OP.READ && op !== UBLK_IO_OP.WRITE)) return 0;
    if (this.isAuto && (this.descriptors.flags(tag) & UBLK_IO_F.NEED_REG_BUF) === 0) return 0;
    this.slots[tag] = SLOT.ours;
    this.command(REGISTER, tag, STEP.register);
    return 0;
  }

  end(tag: number, result: number): number {
    const slot = this.slots[tag]!;
    if (slot === SLOT.empty) return result;
    this.slots[tag] = SLOT.empty;
    if (slot === SLOT.refused) return -ERRNO.EIO;
    this.command(UNREGISTER, tag, STEP.unregister);
    return result;
  }

  transfer(
    sqe: number,
    tag: number,
    file: number,
    fileOffset: number,
    dataOffset: number,
    lengthBytes: number,
  ): void {
    const operation = this.descriptors.op(tag) === UBLK_IO_OP.WRITE ? WRITE_FIXED : READ_FIXED;
    prepTransfer(this.ring.sqes, sqe, operation, file, fileOffset, dataOffset, lengthBytes, tag);
  }

  transferVector(
    sqe: number,
    tag: number,
    file: number,
    fileOffset: number,
    vectors: number,
    count: number,
  ): void {
    const operation = this.descriptors.op(tag) === UBLK_IO_OP.WRITE ? WRITEV_FIXED : READV_FIXED;
    prepTransfer(this.ring.sqes, sqe, operation, file, fileOffset, vectors, count, tag);
  }

  replace(_tag: number): void {
    // The pages are the request's own.
  }

  failed(tag: number, step: number, _result: number): boolean {
    const slot = this.slots[tag]!;
    if (step === STEP.register) {
      this.slots[tag] = slot === SLOT.ours ? SLOT.refused : SLOT.neverWas;
      return true;
    }
    this.slots[tag] = SLOT.empty;
    // A request whose buffer stays registered would never end: that must not pass unseen.
    return slot === SLOT.neverWas;
  }

  /** Queues a (un)registration that is heard of only when it fails. */
  private command(operation: number, tag: number, step: number): void {
    const at = this.ring.sqe();
    const sqes = this.ring.sqes;
    prepUringCmd(sqes, at, this.charFile, operation);
    addFlags(sqes, at, IOSQE.FIXED_FILE | IOSQE.CQE_SKIP_SUCCESS);
    sqes[at + QID_TAG] = this.queueId | (tag << 16);
    sqes[at + INDEX] = tag;
    setUserData(sqes, at, packLo(tag, step), KIND.mode);
  }
}
