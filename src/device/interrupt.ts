// Ctrl-C and SIGTERM while a daemon starts: it is told, takes back what it has begun, and says so.
import { EXIT, UblkError } from "../errors.ts";

/** Catches both signals; made before the first thing that would have to be taken back. */
export class Interrupt {
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

  /** The daemon serves. In the foreground every signal is for it from now on, else none. */
  daemonIsLive({ foreground }: { readonly foreground: boolean }): void {
    this.#forwardsAll = foreground;
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
    if (isFirst || this.#forwardsAll) this.#child?.kill("SIGTERM");
  };
}
