// A ring target as a disk whose functions return promises: its entries go through a ring of its own,
// which wakes the thread's event loop; requests come from whoever calls.
//
// Contract. Every request is answered exactly once, when the target completes it. Data is copied
// between the caller's memory, which nobody knows the nature of, and mapped memory, which the kernel
// may use: a caller that has given up loses nothing but the answer.

import type { Disk } from "ublk-bun";

import { BlockError } from "../api/index.ts";
import { closeSync } from "../builtin.ts";
import { assert, KernelError } from "../errors.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import { EFD, eventfd } from "../ffi/libc.ts";
import { loadLiburing } from "../ffi/liburing.ts";
import { viewInt32 } from "../ffi/memory.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../ffi/ublk.ts";
import { IORING_SETUP } from "../ffi/uring.ts";
import { type Buffers, openBuffers } from "../queue/buffers.ts";
import { TagMemory } from "../queue/tag-memory.ts";
import { KIND, packLo, stepOf, tagOf } from "../queue/tag.ts";
import { setUserData } from "../ring/ops.ts";
import { Ring } from "../ring/ring.ts";
import type { Geometry, QueueContext, RingHandler, Target } from "../target.ts";

/** Requests that the target has at once; more wait. */
const DEPTH = 64;
/** A longer read or write becomes several. */
const IO_BYTES_MAX = 512 * 1024;

export interface LiftOptions {
  /** Path for `loadLiburing`. */
  readonly liburing: string;
  readonly geometry: Geometry;
  readonly data: Target["data"];
  /** Most SQEs that one request becomes. */
  readonly fanOut: number;
  readonly fds: readonly number[];
  readonly serve: (queue: QueueContext) => RingHandler;
  /** After the ring is closed. */
  close(): Promise<void> | void;
  note(text: string): void;
}

interface Request {
  readonly op: number;
  readonly flags: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
  /** A read's memory, or what a write carries. */
  readonly bytes: Uint8Array | undefined;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** The functions that the geometry speaks of. */
export function lift(options: LiftOptions): Disk {
  const { geometry, close } = options;
  const { READ, WRITE, FLUSH, DISCARD, WRITE_ZEROES } = UBLK_IO_OP;
  const queue = new LiftedQueue(options);
  const move = async (op: number, flags: number, offset: number, bytes: Uint8Array) => {
    const { ioBytes } = queue;
    if (bytes.length <= ioBytes) return await queue.ask(op, flags, offset, bytes.length, bytes);
    const count = Math.ceil(bytes.length / ioBytes);
    const pieces = Array.from({ length: count }, (_, i) => {
      const piece = bytes.subarray(i * ioBytes, (i + 1) * ioBytes);
      return queue.ask(op, flags, offset + i * ioBytes, piece.length, piece);
    });
    // The memory is the caller's again when nobody uses it any more.
    const outcomes = await Promise.allSettled(pieces);
    const failed = outcomes.find(({ status }) => status === "rejected");
    if (failed?.status === "rejected") throw failed.reason;
  };
  return {
    sizeBytes: geometry.sizeBytes,
    read: (offset, into) => move(READ, 0, offset, into),
    ...(!geometry.readOnly && {
      write: (offset, from, { fua }) => move(WRITE, fua ? UBLK_IO_F.FUA : 0, offset, from),
    }),
    ...(geometry.volatileCache && { flush: () => queue.ask(FLUSH, 0, 0, 0) }),
    ...(geometry.discard && {
      discard: (offset, length) => queue.ask(DISCARD, 0, offset, length),
    }),
    ...(geometry.writeZeroes && {
      writeZeroes: (offset, length, { mayUnmap }) =>
        queue.ask(WRITE_ZEROES, mayUnmap ? 0 : UBLK_IO_F.NOUNMAP, offset, length),
    }),
    close: async () => {
      queue[Symbol.dispose]();
      await close();
    },
  };
}

/** What the target takes for its queue. Its tags are ours, no driver is behind them. */
class LiftedQueue implements QueueContext, Disposable {
  readonly id = 0;
  readonly depth = DEPTH;
  readonly ring: Ring;
  readonly ioBytes: number;
  readonly note: (text: string) => void;
  readonly transfer: Buffers["transfer"];
  readonly transferVector: Buffers["transferVector"];
  readonly #memory: TagMemory;
  readonly #bytes: readonly Uint8Array[];
  readonly #handler: RingHandler;
  readonly #begun: (Request | undefined)[] = Array.from({ length: DEPTH });
  readonly #free = Array.from({ length: DEPTH }, (_, tag) => tag);
  #waiting: Request[] = [];
  readonly #eventFd = eventfd(0, EFD.CLOEXEC | EFD.NONBLOCK);
  readonly #reader = Bun.file(this.#eventFd).stream().getReader();
  readonly #hasData: boolean;
  #isStarting = false;
  #isTurnDue = false;
  #isOver = false;

  constructor({ liburing, geometry, data, fanOut, fds, serve, note }: LiftOptions) {
    this.note = note;
    this.ioBytes = Math.min(IO_BYTES_MAX, geometry.maxIoBytes ?? IO_BYTES_MAX);
    const ring = new Ring({
      liburing: loadLiburing(liburing),
      entries: DEPTH * fanOut,
      cqEntries: DEPTH * fanOut + 16,
      flags: IORING_SETUP.SINGLE_ISSUER | IORING_SETUP.DEFER_TASKRUN,
    });
    this.ring = ring;
    if (fds.length > 0) ring.registerFiles(fds);
    ring.registerEventfd(this.#eventFd);
    this.#hasData = data !== "none";
    this.#memory = new TagMemory({
      depth: DEPTH,
      bytesPerTag: this.ioBytes,
      shared: !this.#hasData,
    });
    this.#bytes = Array.from({ length: DEPTH }, (_, tag) => this.#view(tag));
    const buffers = openBuffers({
      mode: "copy",
      ring,
      depth: DEPTH,
      bytesPerTag: this.ioBytes,
      data,
      memory: this.#memory,
      queueId: 0,
      charFd: -1,
      charFile: -1,
      descriptors: this,
    });
    this.transfer = buffers.transfer.bind(buffers);
    this.transferVector = buffers.transferVector.bind(buffers);
    this.#handler = serve(this);
    void this.#listen();
  }

  op(tag: number): number {
    return this.#begun[tag]!.op;
  }

  flags(tag: number): number {
    return this.#begun[tag]!.flags;
  }

  offsetBytes(tag: number): number {
    return this.#begun[tag]!.offsetBytes;
  }

  lengthBytes(tag: number): number {
    return this.#begun[tag]!.lengthBytes;
  }

  address(tag: number): number {
    return this.#memory.address(tag);
  }

  own(sqe: number, tag: number, step: number): void {
    setUserData(this.ring.sqes, sqe, packLo(tag, step), KIND.target);
  }

  complete(tag: number, result: number): void {
    const request = this.#begun[tag];
    assert(request !== undefined, `tag ${tag} is answered once`);
    this.#begun[tag] = undefined;
    this.#free.push(tag);
    const { op, bytes, lengthBytes, resolve, reject } = request;
    if (result < 0) reject(errorOf(result));
    else if (bytes !== undefined && result !== lengthBytes) reject(errorOf(-ERRNO.EIO));
    else {
      // Memory that was taken away from a late reader is empty.
      const isWanted = op === UBLK_IO_OP.READ && this.#hasData && bytes!.length === lengthBytes;
      if (isWanted) bytes!.set(this.#bytes[tag]!.subarray(0, lengthBytes));
      resolve();
    }
    this.#start();
  }

  submit(): void {
    this.ring.submit();
  }

  /** Sends the target a request; resolves when it has done all of it. */
  ask(
    op: number,
    flags: number,
    offsetBytes: number,
    lengthBytes: number,
    bytes?: Uint8Array,
  ): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ op, flags, offsetBytes, lengthBytes, bytes, resolve, reject });
    this.#start();
    if (!this.#isTurnDue) queueMicrotask(() => this.#turn());
    this.#isTurnDue = true;
    return promise;
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    void this.#reader.cancel();
    this.ring[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
    closeSync(this.#eventFd);
  }

  /** Gives the target what there is a tag for. A target that completes at once calls back here. */
  #start(): void {
    if (this.#isStarting) return;
    this.#isStarting = true;
    while (this.#waiting.length > 0 && this.#free.length > 0) {
      const request = this.#waiting.shift()!;
      const { op, bytes, lengthBytes, reject } = request;
      // Given up before its turn came.
      if (bytes !== undefined && bytes.length !== lengthBytes) {
        reject(errorOf(-ERRNO.ETIMEDOUT));
        continue;
      }
      const tag = this.#free.pop()!;
      if (op === UBLK_IO_OP.WRITE && this.#hasData) this.#bytes[tag]!.set(bytes!);
      this.#begun[tag] = request;
      try {
        this.#handler.start(tag);
      } catch (error) {
        // It ends the process, as in any queue's thread: what the target has done to this tag nobody knows.
        queueMicrotask(() => {
          throw error;
        });
        // Whoever asks while the disk is being opened hears it.
        reject(error);
      }
    }
    this.#isStarting = false;
  }

  /** Submits what there is to submit, and hands out what has come back, without waiting. */
  #turn(): void {
    this.#isTurnDue = false;
    if (this.#isOver) return;
    do {
      const result = this.ring.submitAndWait(0);
      if (result < 0 && !TRANSIENT.includes(-result)) {
        throw new KernelError(`io_uring_enter failed: ${errnoName(-result)}`, -result);
      }
      this.ring.reap((lo, _hi, res) => this.#handler.finish(tagOf(lo), stepOf(lo), res));
    } while (this.ring.unsubmitted > 0);
  }

  /** What throws here ends the process, as it does in any queue's thread. */
  async #listen(): Promise<void> {
    while (!(await this.#reader.read()).done) this.#turn();
  }

  #view(tag: number): Uint8Array {
    const { buffer, byteOffset } = viewInt32(this.#memory.address(tag), this.ioBytes);
    return new Uint8Array(buffer, byteOffset, this.ioBytes);
  }
}

const TRANSIENT: readonly number[] = [ERRNO.EINTR, ERRNO.EAGAIN, ERRNO.EBUSY];

function errorOf(result: number): BlockError {
  const name = errnoName(-result);
  return new BlockError(name in ERRNO ? name : "EIO");
}
