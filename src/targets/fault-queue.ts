// One queue of fault_inject: null's answers, late, wrong, or cut off by the death of the server.

import { ERRNO } from "../ffi/errno.ts";
import { exitThread } from "../ffi/libc.ts";
import { mapMemory, viewInt32 } from "../ffi/memory.ts";
import { __kernel_timespec } from "../ffi/uring.ts";
import { prepTimeout } from "../ring/ops.ts";
import type { QueueContext, RingHandler } from "../target.ts";
import { nullResult } from "./null.ts";

/** What `--fault` names: what happens to the Worker, or to the request. */
export const FAULTS: readonly string[] = ["throw", "exit", "thread-exit", "loop", "swallow", "eio"];

export type FaultOptions = {
  /** One of FAULTS; happens to requests that touch `faultAtBytes`. */
  readonly fault: string;
  /** -1: nowhere. */
  readonly faultAtBytes: number;
  /** 0: at once. */
  readonly delayUs: number;
  /** 0 to 1: the part of all requests that fail. */
  readonly errorRate: number;
  /** What they fail with; positive. */
  readonly errno: number;
  readonly seed: number;
  /** 0: never. */
  readonly dieAfter: number;
  /** Before tag 1 is fetched, when tag 0 is. */
  readonly dieDuringFetch: boolean;
};

const TIMESPEC_NSEC = __kernel_timespec.at.tv_nsec >> 2;
const NUMBERS_32_BITS = 2 ** 32;

export class FaultQueue implements RingHandler {
  readonly kind = "ring";
  private readonly queue: QueueContext;
  private readonly options: FaultOptions;
  private readonly faultAtBytes: number;
  private readonly errorRate: number;
  private readonly delayed: boolean;
  /** Mapped for good: the queue lives as long as its process. */
  private readonly timespecAddress: number;
  /** What each tag is answered with once its time has come. */
  private readonly answers: Int32Array;
  /** Requests completed by all queues of this process; undefined where nobody counts. */
  private readonly completed: Int32Array | undefined;
  private randomState: number;

  /** `completedAddress`: a word of mapped memory that all queues share, for `dieAfter`. */
  constructor(queue: QueueContext, options: FaultOptions, completedAddress: number) {
    this.queue = queue;
    this.options = options;
    this.faultAtBytes = options.faultAtBytes;
    this.errorRate = options.errorRate;
    this.delayed = options.delayUs > 0;
    this.timespecAddress = this.delayed ? timespecOf(options.delayUs) : 0;
    this.answers = new Int32Array(queue.depth);
    this.completed = options.dieAfter > 0 ? viewInt32(completedAddress, 4) : undefined;
    this.randomState = firstRandom(options.seed, queue.id);
  }

  /** kill -9 at the worst moment of a start: some tags are fetched, the others are not. */
  fetching(tag: number): void {
    if (tag !== 1 || !this.options.dieDuringFetch) return;
    this.queue.submit();
    process.kill(process.pid, "SIGKILL");
  }

  start(tag: number): void {
    const { queue } = this;
    const lengthBytes = queue.lengthBytes(tag);
    const offsetBytes = lengthBytes === 0 ? -1 : queue.offsetBytes(tag);
    const at = this.faultAtBytes;
    if (offsetBytes <= at && at < offsetBytes + lengthBytes) return this.happen(tag);
    const fails = this.errorRate > 0 && this.random() < this.errorRate;
    this.answer(tag, fails ? -this.options.errno : nullResult(queue, tag));
  }

  finish(tag: number, _step: number, result: number): void {
    // A timer that runs out says ETIME.
    this.complete(tag, result === -ERRNO.ETIME ? this.answers[tag]! : result);
  }

  private answer(tag: number, result: number): void {
    if (!this.delayed) return this.complete(tag, result);
    this.answers[tag] = result;
    const { ring } = this.queue;
    const at = ring.sqe();
    prepTimeout(ring.sqes, at, this.timespecAddress);
    this.queue.own(at, tag, 0);
  }

  private complete(tag: number, result: number): void {
    this.queue.complete(tag, result);
    const { completed } = this;
    if (completed === undefined || Atomics.add(completed, 0, 1) + 1 !== this.options.dieAfter)
      return;
    // What is counted as completed is completed for the kernel too.
    this.queue.submit();
    process.kill(process.pid, "SIGKILL");
  }

  private happen(tag: number): void {
    switch (this.options.fault) {
      case "throw":
        throw new Error("fault_inject: thrown on purpose");
      case "exit":
        // The Worker's own, which ends only the Worker.
        return process.exit(3);
      case "thread-exit":
        return exitThread();
      case "loop":
        for (let i = 0; ; i++) if (i < 0) return;
      case "swallow":
        return;
      default:
        return this.answer(tag, -this.options.errno);
    }
  }

  /** xorshift32, from 0 to 1. */
  private random(): number {
    let x = this.randomState;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.randomState = x;
    return (x >>> 0) / NUMBERS_32_BITS;
  }
}

/** Every queue has a row of numbers of its own; 0 would stay 0 for ever. */
function firstRandom(seed: number, queueId: number): number {
  let x = (seed + Math.imul(queueId + 1, 0x9e3779b9)) | 0;
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) | 0 || 1;
}

/** The kernel copies it when a timer is submitted, so that one serves all tags. */
function timespecOf(delayUs: number): number {
  const { address, lengthBytes } = mapMemory(4096);
  const words = viewInt32(address, lengthBytes);
  words[0] = Math.floor(delayUs / 1e6);
  words[TIMESPEC_NSEC] = (delayUs % 1e6) * 1000;
  return address;
}
