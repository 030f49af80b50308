// Serves a disk of plain functions, which may return promises, as a queue's handler.
//
// Contract. Whatever a function does, its request is completed exactly once: when it returns, when its
// promise settles, or at the deadline. After the deadline the request's memory is nobody's: views of
// it are detached, and the tag goes on with another buffer.

import type { Disk } from "ublk-bun";

import { messageOf, placeOf } from "../errors.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../ffi/ublk.ts";
import { isDone, type QueueContext, returnedWords, type RingHandler } from "../target.ts";
import type { FailureLog } from "./failure-log.ts";
import type { TagViews } from "./tag-views.ts";

type Answer = number | void | Promise<number | void>;
type MaybePromise = void | Promise<void>;
export type Call = "read" | "write" | "flush" | "discard" | "writeZeroes";

/** What a function must do besides returning nothing. */
const DUTIES: Readonly<Partial<Record<Call, string>>> = {
  read: "fill all of `into`, and ",
  write: "take all of `from`, and ",
};

/** What the handler needs of its queue. */
export interface AsyncQueueContext extends Pick<
  QueueContext,
  "depth" | "op" | "flags" | "offsetBytes" | "lengthBytes" | "complete"
> {
  replaceBuffer(tag: number): void;
}

export interface AsyncOptions {
  readonly queue: AsyncQueueContext;
  readonly disk: Disk;
  /** Instead of the disk's own, where a flush must reach more than this instance. */
  readonly flush: () => MaybePromise;
  readonly views: TagViews;
  readonly isReadOnly: boolean;
  /** 0: a request may take for ever. */
  readonly ioTimeoutMs: number;
  readonly failures: FailureLog;
  /** Where the disk's own function of this name is written, for what is not thrown. */
  readonly places: ReadonlyMap<Call, string>;
  /** A function is called for this operation; -1: it has returned. */
  readonly onCall: (op: number) => void;
  /** A request was completed outside of `start`: its commit has still to be submitted. */
  readonly onSettled: () => void;
}

const FUA = { fua: true } as const;
const NO_FUA = { fua: false } as const;
const MAY_UNMAP = { mayUnmap: true } as const;
const MUST_KEEP = { mayUnmap: false } as const;

/** The disk's function for each operation. */
export const CALLS: Readonly<Record<number, Call>> = {
  [UBLK_IO_OP.READ]: "read",
  [UBLK_IO_OP.WRITE]: "write",
  [UBLK_IO_OP.FLUSH]: "flush",
  [UBLK_IO_OP.DISCARD]: "discard",
  [UBLK_IO_OP.WRITE_ZEROES]: "writeZeroes",
};

export class AsyncHandler implements RingHandler {
  readonly kind = "ring";
  /** Requests whose promise has not settled. */
  pending = 0;
  private readonly options: AsyncOptions;
  private readonly queue: AsyncQueueContext;
  private readonly disk: Disk;
  private readonly views: TagViews;
  /** Counts a tag's requests: a promise that settles late knows that its time is over. */
  private readonly turns: Int32Array;
  /** When the promise began, or 0. */
  private readonly beganMs: Float64Array;
  private nowMs = performance.now();

  constructor(options: AsyncOptions) {
    this.options = options;
    this.queue = options.queue;
    this.disk = options.disk;
    this.views = options.views;
    this.turns = new Int32Array(options.queue.depth);
    this.beganMs = new Float64Array(options.queue.depth);
  }

  start(tag: number): void {
    const { onCall } = this.options;
    const op = this.queue.op(tag);
    const refusal = this.refusal(op);
    if (refusal !== 0) return this.queue.complete(tag, -refusal);
    let answer: Answer;
    let isAsync: boolean;
    onCall(op);
    try {
      answer = this.call(tag);
      // Inside: a `then` that is a getter may throw.
      isAsync = isPromise(answer);
    } catch (error) {
      onCall(-1);
      return this.fail(tag, error);
    }
    onCall(-1);
    if (!isAsync) return this.succeed(tag, answer);
    const turn = (this.turns[tag]! + 1) | 0;
    this.turns[tag] = turn;
    this.beganMs[tag] = this.nowMs;
    this.pending++;
    void Promise.resolve(answer).then(
      (value) => this.settled(tag, turn) && this.succeed(tag, value),
      (error: unknown) => this.settled(tag, turn) && this.fail(tag, error),
    );
  }

  finish(): void {
    // It queues no entries of its own.
  }

  /** The time, looked at once a round: `nowMs` of performance.now(). */
  tick(nowMs: number): void {
    this.nowMs = nowMs;
  }

  /** Fails what has been under way for longer than the deadline. */
  sweep(nowMs: number): void {
    this.nowMs = nowMs;
    const { ioTimeoutMs } = this.options;
    if (ioTimeoutMs === 0 || this.pending === 0) return;
    for (let tag = 0; tag < this.queue.depth; tag++) {
      const began = this.beganMs[tag]!;
      if (began > 0 && nowMs - began >= ioTimeoutMs) this.giveUp(tag);
    }
  }

  /** Somebody else answers all that is under way: what settles from now on is not heard. */
  abandon(): void {
    for (let tag = 0; tag < this.queue.depth; tag++) {
      if (this.beganMs[tag] !== 0) this.views.detach(tag);
      this.turns[tag] = (this.turns[tag]! + 1) | 0;
    }
    this.beganMs.fill(0);
    this.pending = 0;
  }

  /** The errno of an operation that must not reach the disk, or 0: what was not advertised is not called. */
  private refusal(op: number): number {
    if (op === UBLK_IO_OP.READ || op === UBLK_IO_OP.FLUSH) return 0;
    const call = CALLS[op];
    if (call === undefined || this.disk[call] === undefined) return ERRNO.EOPNOTSUPP;
    return this.options.isReadOnly ? ERRNO.EROFS : 0;
  }

  private call(tag: number): Answer {
    const { queue, disk } = this;
    const op = queue.op(tag);
    if (op === UBLK_IO_OP.READ) {
      return disk.read(queue.offsetBytes(tag), this.views.view(tag, queue.lengthBytes(tag)));
    }
    if (op === UBLK_IO_OP.FLUSH) return this.options.flush();
    const offset = queue.offsetBytes(tag);
    const length = queue.lengthBytes(tag);
    const flags = queue.flags(tag);
    if (op === UBLK_IO_OP.WRITE) {
      const options = (flags & UBLK_IO_F.FUA) === 0 ? NO_FUA : FUA;
      return disk.write!(offset, this.views.view(tag, length), options);
    }
    if (op === UBLK_IO_OP.DISCARD) return disk.discard!(offset, length);
    const options = (flags & UBLK_IO_F.NOUNMAP) === 0 ? MAY_UNMAP : MUST_KEEP;
    return disk.writeZeroes!(offset, length, options);
  }

  /** False: the request was given up, nobody waits for this any more. */
  private settled(tag: number, turn: number): boolean {
    if (this.turns[tag] !== turn || this.beganMs[tag] === 0) return false;
    this.beganMs[tag] = 0;
    this.pending--;
    this.options.onSettled();
    return true;
  }

  private succeed(tag: number, value: unknown): void {
    const op = this.queue.op(tag);
    const hasData = op === UBLK_IO_OP.READ || op === UBLK_IO_OP.WRITE;
    const length = hasData ? this.queue.lengthBytes(tag) : 0;
    // Rule 2 of the house: all of it or an errno.
    if (isDone(value, length)) return this.queue.complete(tag, length);
    const duty = DUTIES[CALLS[op] ?? "flush"] ?? "";
    const what = `returned ${returnedWords(value)}: it must ${duty}return nothing`;
    this.say(tag, this.place(tag), what, "EIO");
    this.queue.complete(tag, -ERRNO.EIO);
  }

  private fail(tag: number, error: unknown): void {
    const errno = errnoOf(error);
    const place = placeOf(error) ?? this.place(tag);
    this.say(tag, place, `failed: ${messageOf(error)}`, errnoName(errno));
    this.queue.complete(tag, -errno);
  }

  private giveUp(tag: number): void {
    this.turns[tag] = (this.turns[tag]! + 1) | 0;
    this.beganMs[tag] = 0;
    this.pending--;
    const seconds = this.options.ioTimeoutMs / 1000;
    this.say(tag, this.place(tag), `has not answered for ${seconds} s (--io-timeout)`, "ETIMEDOUT");
    // In this order: late writes find no memory, then the commit names the new one.
    this.views.detach(tag);
    this.queue.replaceBuffer(tag);
    this.queue.complete(tag, -ERRNO.ETIMEDOUT);
    this.options.onSettled();
  }

  private place(tag: number): string {
    return this.options.places.get(CALLS[this.queue.op(tag)] ?? "read")!;
  }

  private say(tag: number, place: string, what: string, answer: string): void {
    const op = this.queue.op(tag);
    const call = CALLS[op] ?? `operation ${op}`;
    const range =
      op === UBLK_IO_OP.FLUSH
        ? ""
        : ` of ${this.queue.lengthBytes(tag)} bytes at ${this.queue.offsetBytes(tag)}`;
    const text = `${place}: ${call}${range} ${what}; answered ${answer}`;
    this.options.failures.add(`${place} ${call} ${answer}`, text, this.nowMs);
  }
}

const isPromise = (value: Answer): value is Promise<number | void> =>
  typeof value === "object" && value !== null && typeof value.then === "function";

/** A BlockError's errno, EIO for everything else. */
function errnoOf(error: unknown): number {
  const { name, errno } = (error ?? {}) as { readonly name?: unknown; readonly errno?: unknown };
  const isKnown = name === "BlockError" && Number.isInteger(errno);
  return isKnown && Number(errno) > 0 && Number(errno) < 4096 ? Number(errno) : ERRNO.EIO;
}
