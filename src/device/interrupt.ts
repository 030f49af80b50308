// Ctrl-C and SIGTERM while a daemon starts: it is told, takes back what it has begun, and says so.

import { UblkError } from "../errors.ts";

/** Thrown when the person at the prompt did not want to wait. */
export class InterruptedError extends UblkError {
  readonly signal: NodeJS.Signals;

  constructor(signal: NodeJS.Signals, hint?: string) {
    super(`Interrupted by ${signal}`, hint === undefined ? {} : { hint });
    this.signal = signal;
  }
}

/**
 * Catches both signals from its making until it is disposed; make it before the first thing that
 * would have to be taken back.
 */
export class Interrupt implements Disposable {
  /** The last one that came. */
  signal: NodeJS.Signals | undefined;
  #child: Bun.Subprocess | undefined;
  #forwardsAll = false;

  constructor() {
    process.on("SIGINT", this.#onSignal).on("SIGTERM", this.#onSignal);
  }

  /**
   * Tells the starting daemon, at once if a signal has come already. Only once: a second signal
   * would make a daemon that has just gone live let go of its disk instead of removing it.
   */
  forwardTo(child: Bun.Subprocess): void {
    this.#child = child;
    if (this.signal !== undefined) child.kill("SIGTERM");
  }

  /** The foreground's daemon serves: from now on every signal is for it. */
  forwardAll(): void {
    this.#forwardsAll = true;
  }

  [Symbol.dispose](): void {
    process.off("SIGINT", this.#onSignal).off("SIGTERM", this.#onSignal);
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const isFirst = this.signal === undefined;
    this.signal = signal;
    if (isFirst || this.#forwardsAll) this.#child?.kill("SIGTERM");
  };
}
