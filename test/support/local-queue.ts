// A queue without a driver whose ring is real: a target's SQEs do real I/O on this machine's files,
// only the commands to the driver are caught before they are submitted.

import { ERRNO } from "../../src/ffi/errno.ts";
import { liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { viewInt32 } from "../../src/ffi/memory.ts";
import { UBLK_IO, UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import { IORING_OP, IORING_SETUP } from "../../src/ffi/uring.ts";
import { openBuffers } from "../../src/queue/buffers.ts";
import type { Descriptors } from "../../src/queue/descs.ts";
import { Queue } from "../../src/queue/queue.ts";
import { TagMemory } from "../../src/queue/tag-memory.ts";
import { KIND } from "../../src/queue/tag.ts";
import { prepNop, setUserData } from "../../src/ring/ops.ts";
import { Ring } from "../../src/ring/ring.ts";
import type { Backing, QueueContext, RingHandler, Spec, Target } from "../../src/target.ts";

/** Nobody's: tells the driver's commands from a target's own. */
const CHAR_FD = 1_000_000;
/** user_data of what took a command's place. */
const KIND_CAUGHT = 99;
const SETTLE_NS_MAX = 30e9;
const COMMIT = UBLK_IO.COMMIT_AND_FETCH_REQ | 0;

/** A request as the kernel would describe it. */
export interface Request {
  readonly op: number;
  readonly flags?: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface LocalOptions {
  readonly data: Target["data"];
  /** Most SQEs that one request becomes. */
  readonly fanOut: number;
  readonly fds: readonly number[];
  readonly serve: (queue: QueueContext) => RingHandler;
  readonly depth: number;
  readonly ioBufBytes: number;
  /** Changes what the target hears of its SQEs. */
  readonly onResult?: (result: number) => number;
}

export interface TargetOptions extends Pick<LocalOptions, "depth" | "ioBufBytes" | "onResult"> {
  readonly target: Target;
  readonly spec: Spec;
  readonly backing: Backing;
}

export class LocalQueue implements Disposable {
  readonly notes: string[] = [];
  readonly #ring: Ring;
  readonly #memory: TagMemory;
  readonly #bytes: Uint8Array[];
  readonly #queue: Queue;
  readonly #requests = new Map<number, Request>();
  readonly #answers = new Map<number, number>();
  readonly #onResult: (result: number) => number;
  #unseen: number[] = [];

  constructor({ data, fanOut, fds, serve, depth, ioBufBytes, onResult }: LocalOptions) {
    const ring = new Ring({
      liburing: loadLiburing(liburingPath()),
      entries: depth * (1 + fanOut),
      cqEntries: depth * (1 + fanOut) + 16,
      flags: IORING_SETUP.SINGLE_ISSUER | IORING_SETUP.DEFER_TASKRUN,
    });
    this.#ring = ring;
    this.#onResult = onResult ?? ((result) => result);
    if (fds.length > 0) ring.registerFiles(fds);
    this.#memory = new TagMemory({ depth, bytesPerTag: ioBufBytes, shared: false });
    this.#bytes = Array.from({ length: depth }, (_, tag) => this.#view(tag, ioBufBytes));
    const of = (tag: number) => this.#requests.get(tag)!;
    const descriptors = {
      op: (tag: number) => of(tag).op,
      flags: (tag: number) => of(tag).flags ?? 0,
      offsetBytes: (tag: number) => of(tag).offsetBytes,
      lengthBytes: (tag: number) => of(tag).lengthBytes,
    };
    const caught = this.#catching(ring);
    const common = { ring: caught, depth, charFd: CHAR_FD, charFile: CHAR_FD };
    const memory = this.#memory;
    const mode = { mode: "copy", data, memory, bytesPerTag: ioBufBytes, queueId: 0 } as const;
    this.#queue = new Queue({
      ...common,
      id: 0,
      descriptors: descriptors as unknown as Descriptors,
      buffers: openBuffers({ ...common, ...mode, descriptors }),
      onOrder: () => {},
      onNote: (text) => this.notes.push(text),
    });
    this.#queue.prime(serve(this.#queue));
  }

  /** The queue of an opened target. */
  static of({ target, spec, backing, ...options }: TargetOptions): LocalQueue {
    const { facts, fds } = backing;
    return new LocalQueue({
      ...options,
      fds,
      data: target.data,
      fanOut: target.fanOut?.(spec, backing.geometry) ?? 1,
      serve: (queue) => target.serve(spec, { facts, fds, queue }),
    });
  }

  /** A tag's data: what a WRITE carries, what a READ has brought. */
  data(tag: number): Uint8Array {
    return this.#bytes[tag]!;
  }

  /** The driver delivers a request; its I/O begins with the next `settle`. */
  deliver(tag: number, request: Request): void {
    this.#requests.set(tag, request);
    this.#answers.delete(tag);
    this.#queue.onCompletion(tag, KIND.ublk, 0, 0);
  }

  /** Runs the ring until everything delivered is answered; what each tag was answered. */
  settle(): ReadonlyMap<number, number> {
    const wanted = this.#requests.size;
    const answers = new Map<number, number>();
    for (;;) {
      for (const [tag, result] of this.turn()) answers.set(tag, result);
      if (answers.size === wanted) return answers;
      if (this.#ring.submitAndWait(1, SETTLE_NS_MAX) === -ERRNO.ETIME) {
        throw new Error(`${wanted - answers.size} requests are not answered`);
      }
    }
  }

  /** Submits what there is to submit, without waiting; what each tag was answered since. */
  turn(): ReadonlyMap<number, number> {
    this.#catch();
    this.#ring.submitAndWait(0);
    this.#ring.reap((lo, hi, result, flags) => {
      if (hi === KIND_CAUGHT) return;
      this.#queue.onCompletion(lo, hi, this.#onResult(result), flags);
    });
    this.#catch();
    const answers = new Map(this.#answers);
    this.#answers.clear();
    for (const tag of answers.keys()) this.#requests.delete(tag);
    return answers;
  }

  /** One request from delivery to answer. */
  answer(request: Request, data?: Uint8Array): number {
    if (data !== undefined) this.data(0).set(data);
    this.deliver(0, request);
    return this.settle().get(0)!;
  }

  /** What a READ of this range brings, or its errno. */
  read(offsetBytes: number, lengthBytes: number): Uint8Array | number {
    // Old memory would be seen.
    this.data(0).fill(0xee);
    const result = this.answer({ op: UBLK_IO_OP.READ, offsetBytes, lengthBytes });
    return result < 0 ? result : this.data(0).slice(0, result);
  }

  [Symbol.dispose](): void {
    this.#ring[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }

  #view(tag: number, lengthBytes: number): Uint8Array {
    const { buffer, byteOffset } = viewInt32(this.#memory.address(tag), lengthBytes);
    return new Uint8Array(buffer, byteOffset, lengthBytes);
  }

  /** The same ring, but entries are looked at before they leave. */
  #catching(ring: Ring): Ring {
    const sqe = () => {
      // What was taken before is filled by now, and may leave with this call.
      this.#catch();
      const at = ring.sqe();
      this.#unseen.push(at);
      return at;
    };
    return { sqes: ring.sqes, sqe } as unknown as Ring;
  }

  #catch(): void {
    const { sqes } = this.#ring;
    for (const at of this.#unseen.splice(0)) {
      const isCommand = (sqes[at]! & 0xff) === IORING_OP.URING_CMD && sqes[at + 1] === CHAR_FD;
      if (!isCommand) continue;
      const tag = sqes[at + 12]! >>> 16;
      if (sqes[at + 2] === COMMIT) {
        if (!this.#requests.has(tag) || this.#answers.has(tag))
          throw new Error(`tag ${tag} is answered twice`);
        this.#answers.set(tag, sqes[at + 13]!);
      }
      prepNop(sqes, at);
      setUserData(sqes, at, tag, KIND_CAUGHT);
    }
  }
}
