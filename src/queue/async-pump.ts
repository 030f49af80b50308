// How a thread with an event loop lives: its ring and the loop take turns, so that neither starves.
//
// While there is work, each round is one io_uring_enter, and a turn of the loop where a promise waits for
// it or the last one is a while ago. With nothing to do and no promise under way it sleeps a moment in
// the ring, where a request is noticed soonest; then in the loop, which an eventfd of the ring wakes,
// with timers and sockets served as in any program.

import { drainMicrotasks } from "bun:jsc";

import { closeSync } from "../builtin.ts";
import { EFD, eventfd } from "../ffi/libc.ts";
import type { OnCompletion, Ring } from "../ring/ring.ts";
import type { AsyncHandler } from "./async.ts";
import type { Progress } from "./progress.ts";
import { assertEntered, assertSubmitting } from "./pump.ts";
import { assertNotRefused, type Queue } from "./queue.ts";
import { KIND, laneOf } from "./tag.ts";

/** Asleep in the ring before the loop gets its turn: timers are late by no more. */
const RING_SLEEP_NS = 100_000;
/** So long the loop may wait for its turn while the ring is busy and no promise is under way. */
const TURN_MS = 0.2;
const SUBMIT_PAUSE_MS = 10;
const TAKE_BACK_ROUNDS = 50;
const TAKE_BACK_ROUND_NS = 1e6;

export interface AsyncPumpOptions {
  readonly ring: Ring;
  /** In the order of their lanes. */
  readonly queues: readonly Queue[];
  /** The queues' handlers, in the same order. */
  readonly handlers: readonly AsyncHandler[];
  readonly progress: Progress;
  /** How often the loop shows that it lives, and requests are compared with their deadline. */
  readonly beatMs: number;
  readonly onDrained: () => void;
}

export class AsyncPump implements Disposable {
  private readonly options: AsyncPumpOptions;
  private readonly eventFd = eventfd(0, EFD.CLOEXEC | EFD.NONBLOCK);
  private readonly reader: ReturnType<typeof readEvents>;
  private readonly heart: ReturnType<typeof setInterval>;
  /** Ends a sleep in the loop; undefined while awake. */
  private wakeUp: (() => void) | undefined;
  /** Something has happened since the last round. */
  private isCalled = false;
  private failure: unknown;
  private nowMs = 0;
  private turnedMs = 0;

  constructor(options: AsyncPumpOptions) {
    this.options = options;
    options.ring.registerEventfd(this.eventFd);
    options.ring.setEventfdEnabled(false);
    this.reader = readEvents(this.eventFd);
    void this.listen();
    this.heart = setInterval(() => this.beat(), options.beatMs);
  }

  /** There is something to submit. */
  readonly call = (): void => {
    this.isCalled = true;
    this.wakeUp?.();
  };

  /**
   * Serves until every queue is over; then every commit has been submitted. Throws when the ring or a
   * queue fails: its caller must end the process.
   */
  async run(): Promise<void> {
    const { ring, queues, onDrained } = this.options;
    let served: number;
    do {
      let isTired = false;
      while (!queues.every((queue) => queue.finished)) {
        const reaped = this.round(0, 0);
        drainMicrotasks();
        // What was begun is committed only when it is with the kernel.
        if (ring.unsubmitted === 0 && queues.every((queue) => queue.drained)) onDrained();
        const isBusy = reaped > 0 || this.isCalled || ring.unsubmitted > 0;
        this.isCalled = false;
        if (isBusy) {
          isTired = false;
          if (this.pending > 0 || this.nowMs - this.turnedMs >= TURN_MS) await this.turn();
        } else if (!isTired && this.pending === 0) {
          // A request that follows the last one soon is worth a short wait here.
          isTired = this.round(1, RING_SLEEP_NS) === 0;
          drainMicrotasks();
          if (isTired) await this.turn();
        } else await this.sleep();
      }
      // The last commits leave. What has been delivered meanwhile, nobody else could answer any more.
      served = this.served;
      this.round(0, 0);
      await this.submitAll();
      await this.awaitTakeBack();
    } while (!queues.every((queue) => queue.finished) || this.served !== served);
  }

  /** For `ring.reap`: to the queue whose lane it is. */
  readonly onCompletion: OnCompletion = (lo, hi, result, flags) => {
    const lane = hi === KIND.ublk ? laneOf(lo) : 0;
    this.options.queues[lane]!.onCompletion(lo, hi, result, flags);
  };

  [Symbol.dispose](): void {
    clearInterval(this.heart);
    void this.reader.cancel();
    closeSync(this.eventFd);
  }

  private get pending(): number {
    return this.options.handlers.reduce((sum, { pending }) => sum + pending, 0);
  }

  private get served(): number {
    return this.options.queues.reduce((sum, queue) => (sum + queue.served) | 0, 0);
  }

  private beat(): void {
    const now = performance.now();
    for (const handler of this.options.handlers) handler.sweep(now);
    this.show();
    // Should a wake-up ever be lost, it is late by a beat and no more.
    this.call();
  }

  /** An event loop is always busy with its round: only a round that never ends shows no change. */
  private show(): void {
    this.options.progress.idle(this.served);
    this.options.progress.busy();
  }

  /** Until the ring has something, a promise has settled, or a request was given up. */
  private async sleep(): Promise<void> {
    const { ring } = this.options;
    ring.setEventfdEnabled(true);
    const slept = new Promise<void>((resolve) => {
      this.wakeUp = resolve;
    });
    // What came before the eventfd was told to count is found by a look.
    if (this.round(0, 0) > 0) this.call();
    drainMicrotasks();
    if (!this.isCalled) await slept;
    this.wakeUp = undefined;
    ring.setEventfdEnabled(false);
    if (this.failure !== undefined) throw this.failure;
  }

  /** One turn of the event loop: what is due or has arrived is served. */
  private turn(): Promise<void> {
    this.turnedMs = this.nowMs;
    return new Promise<void>((resolve) => void setImmediate(resolve));
  }

  private async listen(): Promise<void> {
    try {
      while (!(await this.reader.read()).done) this.call();
    } catch (error) {
      this.failure = error;
      this.call();
    }
  }

  /** None stays behind when the ring closes: see pump.ts. */
  private async submitAll(): Promise<void> {
    const { ring } = this.options;
    for (let tries = 0; ring.unsubmitted > 0; tries++) {
      assertSubmitting(ring, tries);
      if (tries > 0) await Bun.sleep(SUBMIT_PAUSE_MS);
      this.round(0, 0);
    }
  }

  /** The kernel takes tags back one by one: see pump.ts. */
  private async awaitTakeBack(): Promise<void> {
    const { queues } = this.options;
    for (let n = 0; n < TAKE_BACK_ROUNDS; n++) {
      if (!queues.every((queue) => queue.finished)) return;
      if (!queues.some((queue) => queue.isBeingTakenBack)) return;
      this.round(1, TAKE_BACK_ROUND_NS);
      await this.turn();
    }
  }

  /** Submits what is queued, waits for `count` completions at most so long, and hands them out. */
  private round(count: 0 | 1, timeoutNs: number): number {
    const { ring, queues, handlers } = this.options;
    this.nowMs = performance.now();
    for (const handler of handlers) handler.tick(this.nowMs);
    const result = ring.submitAndWait(count, timeoutNs);
    this.show();
    assertEntered(result);
    const reaped = ring.reap(this.onCompletion);
    for (const queue of queues) assertNotRefused(queue);
    return reaped;
  }
}

/** An eventfd read through the event loop; non-blocking, or the stream will not have it. */
function readEvents(eventFd: number) {
  return Bun.file(eventFd).stream().getReader();
}
