// A recovery step by step: the commands from the test, the fetching in a process that it tells when.

import {
  endUserRecovery,
  getDevInfo,
  startUserRecovery,
} from "../../src/control/commands/index.ts";
import { Control, type RunOptions } from "../../src/control/control.ts";
import { KernelError } from "../../src/errors.ts";
import { liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { repository, until } from "./program.ts";

const TIMEOUT_MS = 60_000;

/** The control device of the driver, and a recovery's commands on device `id`: 0 or a positive errno. */
export class ByHand implements Disposable {
  readonly id: number;
  readonly control: Control;

  private constructor(id: number, control: Control) {
    this.id = id;
    this.control = control;
  }

  static async open(id: number): Promise<ByHand> {
    const liburing = loadLiburing(liburingPath());
    return new ByHand(id, await Control.open({ liburing, timeoutMs: TIMEOUT_MS }));
  }

  start(): Promise<number> {
    return errnoOf(this.control.run(startUserRecovery, this.id, undefined));
  }

  /** START again and again until the dead server's char device is closed. */
  untilStarted(): Promise<void> {
    return until("START is granted", async () => (await this.start()) === 0);
  }

  end(pid: number, options: RunOptions = {}): Promise<number> {
    return errnoOf(this.control.run(endUserRecovery, this.id, { pid }, options));
  }

  /** Starts a server that has the char device open and has fetched nothing. */
  async server(): Promise<ServerByHand> {
    const { depth, ioBufBytes } = await this.control.run(getDevInfo, this.id, undefined);
    return new ServerByHand([this.id, depth, ioBufBytes].map(String));
  }

  [Symbol.dispose](): void {
    this.control[Symbol.dispose]();
  }
}

class ServerByHand implements AsyncDisposable {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "inherit">;
  readonly #reader: ReturnType<typeof readerOf>;

  constructor(words: readonly string[]) {
    this.#child = Bun.spawn(
      [process.execPath, `${repository}/test/support/by-hand.main.ts`, ...words],
      { stdio: ["pipe", "pipe", "inherit"] },
    );
    this.#reader = readerOf(this.#child);
  }

  get pid(): number {
    return this.#child.pid;
  }

  get exited(): Promise<number> {
    return this.#child.exited;
  }

  /** Has it fetch every tag of one queue. */
  async fetch(queueId: number): Promise<void> {
    this.#child.stdin.write(String(queueId));
    await this.#child.stdin.flush();
    const { value } = await this.#reader.read();
    const said = new TextDecoder().decode(value);
    if (said !== `fetched ${queueId}\n`) throw new Error(`the server by hand said "${said}"`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }
}

const readerOf = (child: Bun.Subprocess<"pipe", "pipe", "inherit">) => child.stdout.getReader();

const errnoOf = (running: Promise<unknown>): Promise<number> =>
  running.then(
    () => 0,
    (error: unknown) => (error instanceof KernelError ? error.errno : Promise.reject(error)),
  );
