// Ctrl-C and SIGTERM while a daemon starts: it is told, takes back what it has begun, and says so.
import { begun } from "../begun.ts";
import { EXIT, UblkError } from "../errors.ts";

/**
 * How a starting daemon is told. SIGTERM: also when it is live by then it removes its disk. SIGHUP: it
 * stops only what it has not done yet; a disk that somebody uses must not go because of a late Ctrl-C.
 */
export type BeginSignal = "SIGTERM" | "SIGHUP";

/** Catches both signals; made before the first thing that would have to be taken back. */
export class Interrupt {
  /** The last one that came. */
  signal: NodeJS.Signals | undefined;
  #child: Bun.Subprocess | undefined;
  #as: BeginSignal = "SIGTERM";
  #forwardsAll = false;

  /** `isDeaf`: no signal stops what has begun. */
  constructor({ isDeaf = false } = {}) {
    begun.is = true;
    if (isDeaf) return;
    process.on("SIGINT", this.#onSignal).on("SIGTERM", this.#onSignal);
  }

  /**
   * Tells the starting daemon, at once if a signal has come already. Only once: a second signal
   * would make a daemon that has just gone live let go of its disk instead of removing it.
   */
  forwardTo(child: Bun.Subprocess, { as }: { readonly as: BeginSignal }): void {
    this.#child = child;
    this.#as = as;
    if (this.signal !== undefined) child.kill(as);
  }

  /** The daemon serves. In the foreground every signal is for it from now on, else none. */
  daemonIsLive({ foreground }: { readonly foreground: boolean }): void {
    this.#forwardsAll = foreground;
    this.#as = "SIGTERM";
    if (!foreground) this.#child = undefined;
  }

  /** What to throw: exit 130 or 143, as a shell has it. */
  get error(): UblkError {
    const exitCode = this.signal === "SIGINT" ? EXIT.interrupted : EXIT.terminated;
    return new UblkError(`Interrupted by ${this.signal}`, { exitCode });
  }

  /** Signals end this process again. */
  forget(): void {
    process.off("SIGINT", this.#onSignal).off("SIGTERM", this.#onSignal);
  }

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    const isFirst = this.signal === undefined;
    this.signal = signal;
    if (isFirst || this.#forwardsAll) this.#child?.kill(this.#as);
  };
}
