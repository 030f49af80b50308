// Failures of a target's requests, for the log: each place at most once in ten seconds, with how often.

const QUIET_MS = 10_000;
const PLACES_MAX = 100;

interface Place {
  saidAtMs: number;
  unsaid: number;
}

export class FailureLog {
  readonly #say: (text: string) => void;
  readonly #places = new Map<string, Place>();

  constructor(say: (text: string) => void) {
    this.#say = say;
  }

  /** `place` tells one kind of failure from the others; `nowMs` is any steady clock. */
  add(place: string, text: string, nowMs: number): void {
    const known = this.#places.get(place);
    if (known !== undefined && nowMs - known.saidAtMs < QUIET_MS) {
      known.unsaid++;
      return;
    }
    const more = known?.unsaid ?? 0;
    this.#say(more === 0 ? text : `${text} (and ${more} more like it before)`);
    // What is thrown at ever new places must not fill the memory.
    if (this.#places.size >= PLACES_MAX) this.#places.clear();
    this.#places.set(place, { saidAtMs: nowMs, unsaid: 0 });
  }
}
