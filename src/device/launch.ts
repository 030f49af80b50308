// The launcher's side of a daemon: starts it, hears whether it is live, and cleans up when it died
// before it could.

import { rmSync } from "../builtin.ts";
import type { Control } from "../control/control.ts";
import { EXIT, messageOf, UblkError } from "../errors.ts";
import { close, O, open, pipe2, seekEnd } from "../ffi/libc.ts";
import { log } from "../log.ts";
import { openToAppend } from "./append.ts";
import { cleanUpMs, within } from "./deadline.ts";
import type { Interrupt } from "./interrupt.ts";
import {
  type AddJob,
  DAEMON_COMMAND,
  isUnclaimed,
  type Job,
  type RecoverJob,
  type Report,
} from "./job.ts";
import { lastWords } from "./log-file.ts";
import { prepareDaemonParent } from "./namespace.ts";
import { peek } from "./processes.ts";
import { CLEAN_ENV, DAEMON_ARGV0, selfCommand } from "./self.ts";
import type { DeviceLock, Store } from "./store.ts";

const ENDING_MS_MAX = 5000;

type JobToLaunch =
  | Omit<AddJob, "log" | "locked" | "ownNamespace">
  | Omit<RecoverJob, "log" | "locked" | "ownNamespace">;

export interface LaunchOptions {
  readonly job: JobToLaunch;
  readonly store: Store;
  /** Asked for when the daemon serves or has failed, no sooner. */
  readonly openControl: () => Promise<Control>;
  readonly foreground: boolean;
  /** False: does not read the disk before it returns. */
  readonly waits?: boolean;
  /** The device's lock, where its id is known beforehand. */
  readonly lock: DeviceLock | undefined;
  readonly interrupt: Interrupt;
  /** Variables that its target needs. */
  readonly env: Readonly<Record<string, string>>;
  /** Another version of this program. */
  readonly program?: string;
}

/** A daemon that serves. */
export interface Launched {
  readonly id: number;
  /** Its exit code, when it ends; for the foreground. */
  readonly exited: Promise<number>;
}

/** Starts the daemon and returns when its disk can be read. Throws what kept it from that. */
export async function launch(options: LaunchOptions): Promise<Launched> {
  const { job, store, openControl, foreground, lock, interrupt } = options;
  const ownNamespace = ownNamespaceFor(foreground);
  const logFile = foreground ? "" : startLog(store, job);
  const daemon = spawnDaemon(
    { ...job, log: logFile, locked: lock !== undefined, ownNamespace },
    lock,
    {
      env: options.env,
      ...(options.program === undefined ? {} : { program: options.program }),
    },
  );
  interrupt.forwardTo(daemon.process, { as: job.verb === "add" ? "SIGTERM" : "SIGHUP" });
  try {
    const report = await within(startMs(job.timeoutMs), daemon.reports.next());
    if (report === "late") throw await silentError(daemon.process, options);
    if (report?.kind === "live" && !(await isTakenBack(daemon.process, options))) {
      // It stays, whatever signal comes now: somebody may have the disk open already.
      interrupt.daemonIsLive({ foreground });
      if (options.waits === false || (await isReadable(report.id, daemon.process, options))) {
        // Only now: a disk that can be read has no request that hangs.
        if (job.verb === "add" && options.waits !== false) {
          const { noticeDeathSoon } = await import("./old-kernel.ts");
          await noticeDeathSoon(await openControl(), report.id);
        }
        return { id: report.id, exited: daemon.process.exited };
      }
    }
    await ending(daemon.process);
    if (job.verb === "add") await removeWhatIsLeft(options, job);
    // Dead, it has left the file of its lock.
    else if (report === undefined && isUnclaimed(job))
      peek(() => store.lock(job.id, "recover")[Symbol.dispose]());
    if (interrupt.signal !== undefined) throw interrupt.error;
    throw failure(report, job, daemon);
  } finally {
    if (!foreground) interrupt.forget();
    if (job.verb === "add") rmSync(logFile, { force: true });
  }
}

/** Whoever has said that it does not serve ends at once; one that is stuck in the kernel never does. */
export async function ending(daemon: Bun.Subprocess): Promise<void> {
  if ((await within(ENDING_MS_MAX, daemon.exited)) !== "late") return;
  daemon.kill("SIGKILL");
  await within(ENDING_MS_MAX, daemon.exited);
}

/** Every step of a start has a deadline of its own: this one is for a daemon that cannot even fail. */
function startMs(timeoutMs: number): number {
  return 2 * timeoutMs + 2 * cleanUpMs(timeoutMs);
}

/** The daemon neither serves nor fails: what `add` has begun is taken back, a recovery is left to it. */
async function silentError(daemon: Bun.Subprocess, options: LaunchOptions): Promise<UblkError> {
  const { job } = options;
  const what = `The server process, pid ${daemon.pid}, does not say whether it serves`;
  if (job.verb === "recover") {
    const hint = `it may still come; see its log, or kill it (kill -9 ${daemon.pid}) and recover again`;
    return new UblkError(what, { exitCode: EXIT.timedOut, hint });
  }
  daemon.kill("SIGKILL");
  await within(cleanUpMs(job.timeoutMs), daemon.exited);
  await removeWhatIsLeft(options, job);
  return new UblkError(`${what}: it was killed, and nothing is left of it`, {
    exitCode: EXIT.timedOut,
    hint: "a target that takes long to open needs a longer --timeout",
  });
}

/** False: the daemon has died. A new device whose first read does not end is taken back. */
async function isReadable(
  id: number,
  daemon: Bun.Subprocess,
  options: LaunchOptions,
): Promise<boolean> {
  const { job, interrupt } = options;
  try {
    // Loaded only now: a recovery has no time for it before.
    const { firstRead } = await import("./first-read.ts");
    const control = await options.openControl();
    const isNew = job.verb === "add";
    const { timeoutMs, liburing } = job;
    return await firstRead(id, { control, liburing, timeoutMs, interrupt, daemon, isNew });
  } catch (error) {
    if (job.verb === "add") {
      daemon.kill("SIGKILL");
      await ending(daemon);
      await removeWhatIsLeft(options, job);
    }
    throw error;
  }
}

async function removeWhatIsLeft(options: LaunchOptions, job: JobToLaunch): Promise<void> {
  if (job.verb !== "add") return;
  const { removeRemains } = await import("./remains.ts");
  await removeRemains({ ...options, control: await options.openControl() }, job);
}

/** After a signal that the daemon heard as it was going live: does it end, or is its disk in use? */
async function isTakenBack(
  daemon: Bun.Subprocess,
  { interrupt, job }: LaunchOptions,
): Promise<boolean> {
  // What is recovered stays so, however late the signal came.
  if (interrupt.signal === undefined || job.verb === "recover") return false;
  return (await within(job.timeoutMs, daemon.exited)) !== "late";
}

/** Disposed of, nobody hears it any more; the process goes on. */
export interface Daemon extends Disposable {
  readonly process: Bun.Subprocess<"ignore" | "pipe">;
  readonly reports: Reports;
  /** Its log, open for reading whatever its name becomes; -1 in the foreground. */
  readonly log: number;
  /** How much of the log was there before it. */
  readonly logBegan: number;
}

/**
 * `program`: another version of this one; `waits`: it has a stdin for its moment; `env`: variables that
 * its target needs.
 */
export function spawnDaemon(
  job: Job,
  lock: DeviceLock | undefined,
  options: {
    readonly program?: string;
    readonly waits?: boolean;
    readonly env?: Readonly<Record<string, string>>;
  } = {},
): Daemon {
  const { program, waits = false, env = {} } = options;
  const logFd = openLog(job);
  const ends = new Int32Array(2);
  if (pipe2(ends, O.CLOEXEC) < 0) {
    if (logFd >= 0) close(logFd);
    throw new UblkError("Cannot make a pipe to the daemon");
  }
  const [reports = -1, reportTo = -1] = ends;
  // In the foreground stdout is for the launcher's data.
  const output = logFd < 0 ? 2 : logFd;
  const logBegan = logFd < 0 ? 0 : seekEnd(logFd);
  let child: Daemon["process"];
  try {
    child = Bun.spawn(selfCommand([DAEMON_COMMAND, JSON.stringify(job)], program), {
      argv0: DAEMON_ARGV0,
      detached: true,
      stdio: [waits ? "pipe" : "ignore", output, output, reportTo, ...(lock ? [lock.fd] : [])],
      env: { ...CLEAN_ENV, ...env },
      cwd: "/",
    });
  } catch (cause) {
    // Whoever starts one after the other must not run out of descriptors.
    for (const fd of [reports, logFd]) if (fd >= 0) close(fd);
    throw new UblkError(`Cannot start ${program ?? "the server"}: ${messageOf(cause)}`, {
      cause,
      hint: "nothing was changed",
    });
  } finally {
    close(reportTo);
  }
  const heard = new Reports(reports);
  let isOpen = true;
  return {
    process: child,
    reports: heard,
    log: logFd,
    logBegan,
    [Symbol.dispose]: () => {
      if (!isOpen) return;
      isOpen = false;
      if (logFd >= 0) close(logFd);
      void heard.close();
    },
  };
}

/** -1 in the foreground. A recovery that may be refused makes no file where there is none. */
function openLog(job: Job): number {
  if (job.log === "") return -1;
  if (!isUnclaimed(job)) return openToAppend(job.log);
  const flags = O.RDWR | O.APPEND | O.NOFOLLOW | O.CLOEXEC;
  const fd = open(job.log, flags);
  return fd < 0 ? open("/dev/null", flags) : fd;
}

/** A new daemon's log begins under a name of its own: the id may be taken, by a device with a log. */
function startLog(store: Store, job: JobToLaunch): string {
  return job.verb === "add" ? `${store.dir}/starting-${process.pid}.log` : store.logPath(job.id);
}

export function ownNamespaceFor(foreground: boolean): boolean {
  const { refused, ownNamespace } = prepareDaemonParent();
  if (refused.length > 0 && foreground) log.info(`not allowed here: ${refused.join(", ")}`);
  return ownNamespace;
}

const readerOf = (fd: number) => Bun.file(fd).stream().getReader();

type Outcome = Exclude<Report, { kind: "note" }>;

/** What a daemon says, as it comes. */
export class Reports {
  readonly #fd: number;
  readonly #reader: ReturnType<typeof readerOf>;
  readonly #decoder = new TextDecoder();
  #text = "";

  constructor(fd: number) {
    this.#fd = fd;
    this.#reader = readerOf(fd);
  }

  /** The stream leaves its descriptor open. */
  async close(): Promise<void> {
    await this.#reader.cancel();
    close(this.#fd);
  }

  /** Prints the notes; resolves with what the daemon came to, or undefined when it died first. */
  async next(): Promise<Outcome | undefined> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const report = JSON.parse(this.#text.slice(0, end)) as Report;
        this.#text = this.#text.slice(end + 1);
        if (report.kind !== "note") return report;
        if (report.isWarning) log.warn(report.text);
        else log.info(report.text);
        continue;
      }
      const { done, value } = await this.#reader.read();
      if (done) return undefined;
      this.#text += this.#decoder.decode(value, { stream: true });
    }
  }
}

/** The error of a daemon that has ended without being live. `left`: what it has left, where that is known. */
export function failure(
  report: Outcome | undefined,
  job: Pick<Job, "verb">,
  { process: daemon, log: logFd, logBegan }: Daemon,
  left = job.verb === "add" ? "nothing is left of it" : "what became of its disk: ublk-bun list",
): UblkError {
  if (report?.kind === "error") {
    const { message, exitCode, hint } = report;
    return new UblkError(message, hint === undefined ? { exitCode } : { exitCode, hint });
  }
  const how = daemon.signalCode ?? `exit code ${daemon.exitCode}`;
  const isForeground = logFd < 0;
  const words = isForeground ? "" : lastWords(logFd, logBegan);
  // In the foreground its end is ours, at whatever time it comes.
  const exitCode = isForeground && daemon.signalCode === "SIGKILL" ? EXIT.killed : EXIT.failed;
  const what =
    report?.kind === "live"
      ? "served, and has ended before its disk was read"
      : "died while it was starting";
  const said = words === "" ? "" : `: ${words}`;
  return new UblkError(`The server process ${what}: ${how}${said}`, {
    exitCode,
    hint: left,
  });
}
