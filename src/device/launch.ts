// The launcher's side of a daemon: starts it, hears whether it is live, and cleans up when it died
// before it could.

import { closeSync, rmSync } from "node:fs";
import { join } from "node:path";

import type { Control } from "../control/control.ts";
import { EXIT, UblkError } from "../errors.ts";
import { log } from "../log.ts";
import { findTarget } from "../targets/index.ts";
import type { Ahead } from "./ahead.ts";
import { within } from "./deadline.ts";
import { deviceIds } from "./disk.ts";
import { firstRead } from "./first-read.ts";
import { cleanUpMs, sendByHelper } from "./helper.ts";
import { identityText } from "./identity.ts";
import type { Interrupt } from "./interrupt.ts";
import type { AddJob, Job, RecoverJob, Report } from "./job.ts";
import { lastWords } from "./log-file.ts";
import { prepareDaemonParent } from "./namespace.ts";
import { noticeDeathSoon } from "./old-kernel.ts";
import { findDevice } from "./remove.ts";
import { startDaemon, type Started, type StartOptions } from "./start.ts";
import type { DeviceLock, Store } from "./store.ts";

type JobToLaunch =
  | Omit<AddJob, "log" | "locked" | "ownNamespace">
  | Omit<RecoverJob, "log" | "locked" | "ownNamespace">;

export interface LaunchOptions {
  readonly job: JobToLaunch;
  readonly store: Store;
  readonly control: Control;
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
  /** A process that has been started already, for this device, and may serve. */
  readonly ahead?: Ahead | undefined;
}

/** A daemon that serves. */
export interface Launched {
  readonly id: number;
  /** Its exit code, when it ends; for the foreground. */
  readonly exited: Promise<number>;
}

/** Starts the daemon and returns when its disk can be read. Throws what kept it from that. */
export async function launch(options: LaunchOptions): Promise<Launched> {
  const { job, store, control, foreground, lock, interrupt } = options;
  const logFile = foreground ? "" : startLog(store, job);
  const daemon = begin(options, { log: logFile, locked: lock !== undefined });
  interrupt.forwardTo(daemon.process, { as: job.verb === "add" ? "SIGTERM" : "SIGHUP" });
  try {
    const report = await within(startMs(job.timeoutMs), daemon.reports.next());
    if (report === "late") throw await silentError(daemon.process, options);
    if (report?.kind === "live" && !(await isTakenBack(daemon.process, options))) {
      // It stays, whatever signal comes now: somebody may have the disk open already.
      interrupt.daemonIsLive({ foreground });
      if (options.waits === false || (await isReadable(report.id, daemon.process, options))) {
        // Only now: a disk that can be read has no request that hangs.
        if (job.verb === "add" && options.waits !== false)
          await noticeDeathSoon(control, report.id);
        return { id: report.id, exited: daemon.process.exited };
      }
    }
    await daemon.process.exited;
    if (job.verb === "add") await removeRemains(control, store, job);
    if (interrupt.signal !== undefined) throw interrupt.error;
    throw failure(report, job, daemon);
  } finally {
    if (!foreground) interrupt.forget();
    if (job.verb === "add") rmSync(logFile, { force: true });
  }
}

/** The process that does the job: the one that was started ahead, where that is good for it. */
function begin(
  { job, lock, foreground, program, env, ahead }: LaunchOptions,
  common: Pick<Job, "log" | "locked">,
): Daemon {
  // What a process is and inherits is settled when it starts.
  const isGood = !foreground && program === undefined && Object.keys(env).length === 0;
  if (isGood && ahead !== undefined && job.verb === "recover") {
    return heard(ahead.begin({ ...job, ...common, ownNamespace: ahead.ownNamespace }));
  }
  const ownNamespace = ownNamespaceFor(foreground);
  const other = program === undefined ? {} : { program };
  return spawnDaemon({ ...job, ...common, ownNamespace }, lock, { env, ...other });
}

/** Every step of a start has a deadline of its own: this one is for a daemon that cannot even fail. */
function startMs(timeoutMs: number): number {
  return 2 * timeoutMs + 2 * cleanUpMs(timeoutMs);
}

/** The daemon neither serves nor fails: what `add` has begun is taken back, a recovery is left to it. */
async function silentError(
  daemon: Bun.Subprocess,
  { job, store, control }: LaunchOptions,
): Promise<UblkError> {
  const what = `The server process, pid ${daemon.pid}, does not say whether it serves`;
  if (job.verb === "recover") {
    const hint = `it may still come; see its log, or kill it (kill -9 ${daemon.pid}) and recover again`;
    return new UblkError(what, { exitCode: EXIT.timedOut, hint });
  }
  daemon.kill("SIGKILL");
  await within(cleanUpMs(job.timeoutMs), daemon.exited);
  await removeRemains(control, store, job);
  return new UblkError(`${what}: it was killed, and nothing is left of it`, {
    exitCode: EXIT.timedOut,
    hint: "a target that takes long to open needs a longer --timeout",
  });
}

/** False: the daemon has died. A new device whose first read does not end is taken back. */
async function isReadable(
  id: number,
  daemon: Bun.Subprocess,
  { job, store, control, interrupt }: LaunchOptions,
): Promise<boolean> {
  try {
    const isNew = job.verb === "add";
    return await firstRead(id, { timeoutMs: job.timeoutMs, interrupt, daemon, isNew });
  } catch (error) {
    if (job.verb === "add") {
      daemon.kill("SIGKILL");
      await daemon.exited;
      await removeRemains(control, store, job);
    }
    throw error;
  }
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

/** A started one that is heard; disposed of, nobody hears it any more, and the process goes on. */
export interface Daemon extends Omit<Started, "reports">, Disposable {
  readonly reports: Reports;
}

/** Starts the process that does this job. */
export function spawnDaemon(
  job: Job,
  lock: DeviceLock | undefined,
  options: Pick<StartOptions, "program" | "waits" | "env"> = {},
): Daemon {
  return heard(startDaemon([JSON.stringify(job)], { ...options, log: job.log, lock }));
}

function heard({ process: child, reports: reportFd, log: logFd, logBegan }: Started): Daemon {
  const reports = new Reports(reportFd);
  let isOpen = true;
  return {
    process: child,
    reports,
    log: logFd,
    logBegan,
    [Symbol.dispose]: () => {
      if (!isOpen) return;
      isOpen = false;
      if (logFd >= 0) closeSync(logFd);
      void reports.close();
    },
  };
}

/** A new daemon's log begins under a name of its own: the id may be taken, by a device with a log. */
function startLog(store: Store, job: JobToLaunch): string {
  return job.verb === "add"
    ? join(store.dir, `starting-${process.pid}.log`)
    : store.logPath(job.id);
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
    closeSync(this.#fd);
  }

  /** Prints the notes; resolves with what the daemon came to, or undefined when it died first. */
  async next(): Promise<Outcome | undefined> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const report = JSON.parse(this.#text.slice(0, end)) as Report;
        this.#text = this.#text.slice(end + 1);
        if (report.kind !== "note") return report;
        log.info(report.text);
        continue;
      }
      const { done, value } = await this.#reader.read();
      if (done) return undefined;
      this.#text += this.#decoder.decode(value, { stream: true });
    }
  }
}

/** A daemon that was killed in the middle of `add` leaves a half-made device: it is known by its identity. */
async function removeRemains(
  control: Control,
  store: Store,
  { record, timeoutMs, liburing }: Pick<AddJob, "record" | "timeoutMs" | "liburing">,
): Promise<void> {
  const options = { timeoutMs: cleanUpMs(timeoutMs), liburing };
  for (const id of deviceIds()) {
    const info = await findDevice(control, id);
    if (info === undefined || identityText(info.identity) !== record.identity) continue;
    await sendByHelper("stop", id, options);
    await sendByHelper("del", id, options);
    store.remove(id);
    store.events.add("deleted", { id, target: record.target });
  }
  await findTarget(record.target).remove?.(record.spec, record);
}

/** The error of a daemon that has ended without being live. */
export function failure(
  report: Outcome | undefined,
  job: Pick<Job, "verb">,
  { process: daemon, log: logFd, logBegan }: Daemon,
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
  return new UblkError(
    `The server process died while it was starting: ${how}${words === "" ? "" : `: ${words}`}`,
    {
      exitCode,
      hint:
        job.verb === "add" ? "nothing is left of it" : "nothing was changed; see: ublk-bun list",
    },
  );
}
