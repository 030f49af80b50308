// Instances of one disk, one a queue, that share nothing: a flush must reach all of them.

import { messageOf } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";

type Message =
  | { readonly kind: "flush"; readonly from: number; readonly round: number }
  | {
      readonly kind: "flushed";
      readonly to: number;
      readonly round: number;
      /** 0, or why not. */
      readonly errno: number;
      readonly why: string;
    };

interface Round {
  left: number;
  readonly done: PromiseWithResolvers<void>;
}

export interface FlushGroupOptions {
  /** The device's own: no other group of this process may hear. */
  readonly name: string;
  /** Which instance this is, of how many. */
  readonly member: number;
  readonly members: number;
  /** Flushes this instance. */
  readonly flush: () => unknown;
}

export class FlushGroup {
  readonly #options: FlushGroupOptions;
  readonly #channel: BroadcastChannel | undefined;
  readonly #rounds = new Map<number, Round>();
  #flush: () => unknown;
  #round = 0;

  constructor(options: FlushGroupOptions) {
    this.#options = options;
    this.#flush = options.flush;
    if (options.members === 1) return;
    this.#channel = new BroadcastChannel(options.name);
    this.#channel.onmessage = ({ data }: { readonly data: unknown }) =>
      this.#heard(data as Message);
  }

  /** Flushes every instance; rejects with the first errno. */
  async flushAll(): Promise<void> {
    const round = ++this.#round;
    const { member, members } = this.#options;
    const done = Promise.withResolvers<void>();
    this.#rounds.set(round, { left: members - 1, done });
    if (members === 1) done.resolve();
    // If our own fails first, the others' answers are not waited for.
    done.promise.catch(() => {});
    this.#post({ kind: "flush", from: member, round });
    try {
      await this.#flush();
      await done.promise;
    } finally {
      this.#rounds.delete(round);
    }
  }

  /** This instance is flushed for good: there is nothing more that the others must wait for. */
  close(): void {
    this.#flush = () => {};
  }

  #heard(message: Message): void {
    if (message.kind === "flush") return void this.#answer(message.from, message.round);
    const round = this.#rounds.get(message.round);
    if (message.to !== this.#options.member || round === undefined) return;
    if (message.errno !== 0) {
      const { errno, why } = message;
      return round.done.reject(Object.assign(new Error(why), { name: "BlockError", errno }));
    }
    round.left--;
    if (round.left === 0) round.done.resolve();
  }

  async #answer(to: number, round: number): Promise<void> {
    try {
      await this.#flush();
      this.#post({ kind: "flushed", to, round, errno: 0, why: "" });
    } catch (error) {
      const { errno } = (error ?? {}) as { readonly errno?: unknown };
      const why = `queue ${this.#options.member}: ${messageOf(error)}`;
      const number = Number.isInteger(errno) && Number(errno) > 0 ? Number(errno) : ERRNO.EIO;
      this.#post({ kind: "flushed", to, round, errno: number, why });
    }
  }

  #post(message: Message): void {
    this.#channel?.postMessage(message);
  }
}
