// watch --standby: a server in waiting for one device, that only has to fetch when its moment comes.
//
// It has opened and checked what the record says. Whoever changes the record (an upgrade, another size)
// makes it worthless: it is ended, and another one started.

import { messageOf } from "../errors.ts";
import { log } from "../log.ts";
import { within } from "./deadline.ts";
import type { DeviceRecord } from "./store.ts";

/** After one that has ended; doubles from one to the next where it did not get ready or died early. */
const RETRY_MS_MIN = 1000;
const RETRY_MS_MAX = 60_000;
/** One that has waited so long was a good one. */
const LIVED_MS = 10_000;

/** What a standby is to whoever keeps it: a Successor. */
export interface Waiting {
  readonly pid: number;
  readonly exited: Promise<number>;
  go(): Promise<void>;
  live(): Promise<void>;
  /** Ends it, and closes what it was heard by. */
  abandon(): void;
}

/** A record that there shall be a standby for. */
interface Wish {
  readonly record: DeviceRecord;
  /** Resolves when it is none any more. */
  readonly over: PromiseWithResolvers<void>;
}

export class Standby {
  readonly #id: number;
  readonly #start: (record: DeviceRecord, isWanted: () => boolean) => Promise<Waiting>;
  #wish: Wish | undefined;
  #ready: Waiting | undefined;

  /**
   * `start` resolves when the process is ready, and throws what keeps it from that: also that it `isWanted` no
   * more when its turn has come.
   */
  constructor(
    id: number,
    start: (record: DeviceRecord, isWanted: () => boolean) => Promise<Waiting>,
  ) {
    this.#id = id;
    this.#start = start;
  }

  /** Sees to it that there is one for this record, now and for as long as nothing else is said. */
  keep(record: DeviceRecord): void {
    if (JSON.stringify(record) === JSON.stringify(this.#wish?.record)) return;
    this.drop();
    this.#wish = { record, over: Promise.withResolvers() };
    void this.#fulfil(this.#wish);
  }

  /** None is needed any more. */
  drop(): void {
    this.take()?.abandon();
  }

  /** The one that is ready, for good; undefined: there is none. */
  take(): Waiting | undefined {
    const ready = this.#ready;
    this.#ready = undefined;
    this.#wish?.over.resolve();
    this.#wish = undefined;
    return ready;
  }

  async #fulfil(wish: Wish): Promise<void> {
    let retryMs = RETRY_MS_MIN;
    for (;;) {
      const began = performance.now();
      const why = await this.#untilEnded(wish);
      if (this.#wish !== wish) return;
      log.warn(`device ${this.#id} has no standby: ${why}`);
      if (performance.now() - began >= LIVED_MS) retryMs = RETRY_MS_MIN;
      // It may have been ended by whoever is about to stop the disk.
      await within(retryMs, wish.over.promise);
      if (this.#wish !== wish) return;
      retryMs = Math.min(2 * retryMs, RETRY_MS_MAX);
    }
  }

  /** Starts one and waits for its end. Returns why there is none any more. */
  async #untilEnded(wish: Wish): Promise<string> {
    let waiting: Waiting;
    try {
      waiting = await this.#start(wish.record, () => this.#wish === wish);
    } catch (error) {
      return messageOf(error);
    }
    if (this.#wish !== wish) {
      waiting.abandon();
      return "it is not wanted any more";
    }
    this.#ready = waiting;
    log.info(`device ${this.#id} has a standby, pid ${waiting.pid}`);
    const exitCode = await waiting.exited;
    if (this.#ready === waiting) {
      this.#ready = undefined;
      waiting.abandon();
    }
    return `pid ${waiting.pid} has ended (exit code ${exitCode})`;
  }
}
