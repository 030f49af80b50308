// One instance of a target in a process of its own, as the check sees it.

import { wordsOf } from "./host.ts";
import type { Answer, HostJob, Request } from "./protocol.ts";

/** How long a process may take to answer a ping before its thread counts as busy for ever. */
const PING_MS = 2000;

/** A target that did something wrong: what a check fails with. */
export class Failure extends Error {
  /** The errno's name, where the target refused a request by one. */
  readonly code: string | undefined;

  constructor(message: string, code?: string) {
    super(message);
    this.code = code;
  }
}

export interface InstanceOptions {
  readonly job: HostJob;
  /** The command line that runs the host, without its job. */
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly ioTimeoutMs: number;
}

interface Waiting {
  readonly request: Request;
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: Failure) => void;
  readonly timer: Timer;
}

export class Instance {
  readonly #options: InstanceOptions;
  readonly #child: Bun.Subprocess;
  readonly #waiting = new Map<number, Waiting>();
  #lastId = 0;
  #isKilled = false;
  /** How the process ended by itself, in words. */
  #end: string | undefined;

  constructor(options: InstanceOptions) {
    this.#options = options;
    this.#child = Bun.spawn([...options.command, JSON.stringify(options.job)], {
      ipc: (answer: Answer) => this.#onAnswer(answer),
      serialization: "advanced",
      // As in the server: nothing of the caller's folder, environment or prompt.
      cwd: "/",
      env: { ...options.env },
      stdio: ["ignore", 2, 2],
      onExit: (_, code, signal) => this.#onExit(code, signal),
    });
  }

  /** What the target answered. Rejects with Failure. */
  call(request: Request): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    if (this.#end !== undefined) {
      reject(ended(request, this.#end));
      return promise;
    }
    const id = ++this.#lastId;
    const { ioTimeoutMs } = this.#options;
    const timer = setTimeout(() => void this.#late(id, request, reject), ioTimeoutMs);
    this.#waiting.set(id, { request, resolve, reject, timer });
    try {
      this.#child.send({ ...request, id });
    } catch {
      // It has ended; onExit tells.
    }
    return promise;
  }

  /** kill -9, and until it is gone. What is under way is forgotten. */
  async kill(): Promise<void> {
    this.#isKilled = true;
    for (const [id, { timer }] of this.#waiting) {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
    this.#child.kill("SIGKILL");
    await this.#child.exited;
  }

  #onAnswer(answer: Answer): void {
    const waiting = this.#waiting.get(answer.id);
    if (waiting === undefined) return;
    this.#waiting.delete(answer.id);
    clearTimeout(waiting.timer);
    if (answer.problem === undefined) waiting.resolve(answer);
    else waiting.reject(new Failure(answer.problem, answer.code));
  }

  #onExit(code: number | null, signal: number | string | null): void {
    if (this.#isKilled) return;
    this.#end = signal === null ? `exit code ${code}` : `signal ${signal}`;
    for (const { request, reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(ended(request, this.#end));
    }
    this.#waiting.clear();
  }

  /** Not answered in time: is its promise forgotten, or does its thread do nothing else? */
  async #late(id: number, request: Request, reject: (error: Failure) => void): Promise<void> {
    this.#waiting.delete(id);
    const what = `${wordsOf(request)}: not answered within ${this.#options.ioTimeoutMs} ms`;
    const isAwake = await Promise.race([
      request.kind !== "ping" && this.#ping(),
      Bun.sleep(PING_MS).then(() => false),
    ]);
    reject(
      new Failure(
        isAwake
          ? `${what}: its promise never settles`
          : `${what}: the thread does nothing else meanwhile; an endless loop, or a blocking call`,
      ),
    );
  }

  #ping(): Promise<boolean> {
    return this.call({ kind: "ping" }).then(
      () => true,
      () => false,
    );
  }
}

const ended = (request: Request, how: string) =>
  new Failure(
    `${wordsOf(request)}: the target ended its process (${how}); in a server that ends the ` +
      "service of the disk: no process.exit(), and catch what is thrown in timers and callbacks",
  );
