// How a server dies here, and how it is brought back.

import { dlopen } from "bun:ffi";

import { type Background, underLoad } from "../crash.ts";
import { type DeviceReport, program, runOk, type TestDevice, until } from "../program.ts";
import { DiskNode } from "./watch.ts";

const SIGNALS = { SIGKILL: 9, SIGSEGV: 11, SIGABRT: 6 } as const;

/** A signal to the process, or to one queue's thread alone. */
export interface Death {
  readonly signal: keyof typeof SIGNALS;
  readonly target: "process" | "thread";
}

export const DEATHS: readonly Death[] = [
  { signal: "SIGKILL", target: "process" },
  { signal: "SIGSEGV", target: "thread" },
  { signal: "SIGABRT", target: "process" },
  { signal: "SIGKILL", target: "thread" },
  { signal: "SIGSEGV", target: "process" },
];

const { symbols: C } = dlopen("libc.so.6", {
  tgkill: { args: ["i32", "i32", "i32"], returns: "i32" },
});

export interface MortalOptions {
  readonly random: () => number;
  /** Whoever reads and writes the disk. */
  readonly load: readonly Background[];
  /** The program that recovers, where it is not the one under test. */
  readonly by?: string;
  /** `watch` recovers it. */
  readonly isWatched?: boolean;
}

/** A disk whose server dies and is recovered, again and again, and which must stay the same disk. */
export class Mortal {
  readonly recoverMs: number[] = [];
  readonly #device: TestDevice;
  readonly #options: MortalOptions;
  readonly #node: DiskNode;
  #report: DeviceReport | undefined;

  constructor(device: TestDevice, options: MortalOptions) {
    this.#device = device;
    this.#options = options;
    this.#node = new DiskNode(device.id);
  }

  /** One death at the moment that `moment` waits for, and one recovery. */
  async die(death: Death, moment: () => Promise<void>): Promise<void> {
    const { load } = this.#options;
    const { id } = this.#device;
    const before = (this.#report ??= await this.#device.report());
    await moment();
    await underLoad(id, load, () => this.#kill(before, death));
    const began = performance.now();
    const after = await this.#recovered(before);
    this.recoverMs.push(performance.now() - began);
    this.#node.assertSame();
    if (after.serverPid === before.serverPid || after.restarts !== (before.restarts ?? 0) + 1) {
      throw new Error(`not recovered: ${JSON.stringify(after)}`);
    }
    this.#report = after;
  }

  /** What is known of the disk when it has its next server. */
  async #recovered(before: DeviceReport): Promise<DeviceReport> {
    const { by = program, isWatched = false } = this.#options;
    const { id } = this.#device;
    if (!isWatched) return JSON.parse(await runOk(by, "recover", String(id), "--json"));
    let after = before;
    await until(`a new server of device ${id}`, async () => {
      after = await this.#device.report();
      const isServed = after.serverPid !== null && after.serverPid !== before.serverPid;
      return isServed && after.state === "LIVE" && after.restarts !== before.restarts;
    });
    return after;
  }

  #kill({ serverPid, queues }: DeviceReport, { signal, target }: Death): void {
    const { threadId } = queues[Math.floor(this.#options.random() * queues.length)]!;
    if (serverPid === null || threadId === null) throw new Error("nobody serves the disk");
    const thread = target === "thread" ? threadId : serverPid;
    if (C.tgkill(serverPid, thread, SIGNALS[signal]) !== 0) {
      throw new Error(`cannot kill ${thread} of ${serverPid}`);
    }
  }
}
