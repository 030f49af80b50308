// A server in waiting: a process that has loaded, opened and checked everything that a recovery needs,
// and takes the device over when it is told that its moment has come.

import { EXIT, UblkError } from "../errors.ts";
import { within } from "./deadline.ts";
import type { RecoverJob } from "./job.ts";
import { type Daemon, ending, failure, ownNamespaceFor, spawnDaemon } from "./launch.ts";
import type { DeviceLock, DeviceRecord, Store } from "./store.ts";

export interface SuccessorOptions {
  readonly id: number;
  readonly store: Store;
  readonly timeoutMs: number;
  readonly liburing: string;
  /** The device's lock, handed on; without one the successor takes it when its moment comes. */
  readonly lock: DeviceLock | undefined;
  readonly role: "standby" | "successor";
  /** To serve it by, and to keep; undefined: the record that there is. */
  readonly record?: DeviceRecord;
  /** Variables that its target needs. */
  readonly env: Readonly<Record<string, string>>;
  /** Another version of this program; undefined: this one. */
  readonly program?: string;
}

/** As long as its predecessor serves. */
const UNTOUCHED = "nothing was changed; see: ublk-bun list";

export class Successor {
  readonly #daemon: Daemon;
  readonly #job: RecoverJob;

  private constructor(daemon: Daemon, job: RecoverJob) {
    this.#daemon = daemon;
    this.#job = job;
  }

  get pid(): number {
    return this.#daemon.process.pid;
  }

  /** Resolves with its exit code, whenever that is. */
  get exited(): Promise<number> {
    return this.#daemon.process.exited;
  }

  /**
   * Starts it; resolves when it is ready. Throws what keeps it from that; nothing was changed then.
   * What it inherits is ours too from then on: see `prepareDaemonParent`.
   */
  static async start(options: SuccessorOptions): Promise<Successor> {
    const { id, store, timeoutMs, liburing, lock, program, role, record, env } = options;
    const job: RecoverJob = {
      verb: "recover",
      runDir: store.dir,
      timeoutMs,
      liburing,
      id,
      role,
      force: false,
      once: {},
      ...(record === undefined ? {} : { record }),
      log: store.logPath(id),
      locked: lock !== undefined,
      ownNamespace: ownNamespaceFor(false),
    };
    const daemon = spawnDaemon(job, lock, {
      waits: true,
      env,
      ...(program === undefined ? {} : { program }),
    });
    const successor = new Successor(daemon, job);
    const report = await within(timeoutMs, daemon.reports.next());
    if (report !== "late" && report?.kind === "ready") return successor;
    if (report === "late") {
      // It has not been told to go, and may be another program: no word is sure to end it but this.
      daemon.process.kill("SIGKILL");
      successor.abandon();
      throw new UblkError(`The new server, pid ${successor.pid}, does not get ready`, {
        exitCode: EXIT.timedOut,
        hint: "it was ended, nothing was changed; a target that is slow needs a longer --timeout",
      });
    }
    await ending(daemon.process);
    throw successor.#failure(report, UNTOUCHED);
  }

  /** Its moment: from now on it takes the device as soon as the kernel lets it. */
  async go(): Promise<void> {
    const { stdin } = this.#daemon.process;
    if (typeof stdin !== "object") return;
    await stdin.write("go\n");
    await stdin.flush();
  }

  /** Throws what it has died of, while nobody has let go for it. */
  async assertAlive(): Promise<void> {
    const { exitCode, signalCode } = this.#daemon.process;
    if (exitCode === null && signalCode === null) return;
    throw this.#failure(await this.#daemon.reports.next(), UNTOUCHED);
  }

  /** Resolves when it serves the device. Throws what kept it from that. */
  async live(): Promise<void> {
    const report = await this.#daemon.reports.next();
    if (report?.kind === "live") {
      this.#daemon.process.unref();
      this.#daemon[Symbol.dispose]();
      return;
    }
    await ending(this.#daemon.process);
    throw this.#failure(report);
  }

  /** Ends it, unless it has taken the device already. */
  abandon(): void {
    this.#daemon.process.kill("SIGHUP");
    void this.exited.then(() => this.#daemon[Symbol.dispose]());
  }

  /** The error of one that has ended; what it said is read before its log is closed. */
  #failure(report: Awaited<ReturnType<Daemon["reports"]["next"]>>, left?: string): UblkError {
    const error = failure(report, this.#job, this.#daemon, left);
    this.#daemon[Symbol.dispose]();
    return error;
  }
}
