// How often, and after which pauses, a server that keeps dying is started again.

/** A server that has lived so long was no quick death: the next pause is none again. */
const LIVED_MS = 1000;

export interface RestartPolicy {
  /** At most so many restarts … */
  readonly maxRestarts: number;
  /** … within this time. */
  readonly windowMs: number;
  /** The pause before the second restart in a row; it doubles from one to the next. */
  readonly backoffMs: number;
  readonly backoffMsMax: number;
}

/** One device's restarts. All times are those of one clock, in milliseconds. */
export class RestartLimit {
  readonly #policy: RestartPolicy;
  #starts: number[] = [];
  #quick = 0;

  constructor(policy: RestartPolicy) {
    this.#policy = policy;
  }

  /** How long to wait before the next restart, 0 for not at all; undefined: too many already. */
  pauseMs(now: number): number | undefined {
    const { maxRestarts, windowMs, backoffMs, backoffMsMax } = this.#policy;
    this.#starts = this.#starts.filter((start) => now - start < windowMs);
    if (this.#starts.length >= maxRestarts) return undefined;
    // Beyond 2^30 the cap has long been reached, whatever the two are.
    const doublings = Math.min(this.#quick - 1, 30);
    return this.#quick === 0 ? 0 : Math.min(backoffMs * 2 ** doublings, backoffMsMax);
  }

  /** Restarts that count now. */
  get count(): number {
    return this.#starts.length;
  }

  /** A restart begins. */
  began(now: number): void {
    this.#starts.push(now);
    this.#quick++;
  }

  /** The last one was none: somebody else was at the device. */
  takeBack(): void {
    this.#starts.pop();
    this.#quick = Math.max(0, this.#quick - 1);
  }

  /** A server has died that had served for this long. */
  served(forMs: number): void {
    if (forMs >= LIVED_MS) this.#quick = 0;
  }

  /** Forgets everything: somebody has set the device right by hand. */
  forget(): void {
    this.#starts = [];
    this.#quick = 0;
  }
}
