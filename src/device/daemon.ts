// The daemon: begins to serve one device, says so or says why not, serves, and ends.
//
// SIGTERM and SIGINT ask it to remove its disk; while somebody has the disk open it goes on serving,
// and a second signal within ten seconds makes it let go: the kernel keeps the disk for `recover`.

import { writeFileSync } from "../builtin.ts";
import { getDevInfo } from "../control/commands/index.ts";
import { Control } from "../control/control.ts";
import { EXIT, messageOf, stackOf, UblkError } from "../errors.ts";
import { _exit, alarm, close, F, fcntl, nameThread } from "../ffi/libc.ts";
import { liburingPath, loadLiburing } from "../ffi/liburing.ts";
import { log, logAsDaemon } from "../log.ts";
import { assertStillDue } from "./attach.ts";
import { isOwnCode } from "./code.ts";
import { within } from "./deadline.ts";
import { Device } from "./device.ts";
import { diskPath, inFlight } from "./disk.ts";
import { findDevice } from "./find-device.ts";
import { isOurs } from "./identity.ts";
import { isUnclaimed, type Job, LOCK_FD, type RecoverJob, REPORT_FD } from "./job.ts";
import { LogFile } from "./log-file.ts";
import { watchOwnMounts } from "./own-mounts.ts";
import { untilTold } from "./parent.ts";
import { peek } from "./processes.ts";
import { type Claimed, claimRecovery, liburingOf } from "./recoverable.ts";
import { type Ear, listen } from "./remote.ts";
import { deleteStopped, stopDisk } from "./remove.ts";
import { Reporter } from "./reporter.ts";
import { markResting } from "./resting.ts";
import { type DeviceLock, type DeviceRecord, Store } from "./store.ts";
import { tellAdded, tellDied, tellRecovered, tellRecovering } from "./tell.ts";
import { trimMemory } from "./trim.ts";

/** A second signal within this time means: let go at once. */
const SECOND_SIGNAL_MS = 10_000;
/** How long requests that the target has begun may take when we let go. */
const LET_GO_MS_MAX = 5000;
/** How long a target may take to close when somebody waits for its device. */
const CLOSE_SECONDS_MAX = 10;
/** A drained server that hears no more goes on serving after this time. */
const HOLD_MS_MAX = 5000;
/** By then the start is over. */
const TRIM_AFTER_MS = 1000;
const FATAL_EXIT = 70;

/** Serves until the device is gone; the process's exit code. */
export async function runDaemon(job: Job): Promise<number> {
  return new Daemon(job).run();
}

class Daemon {
  readonly #job: Job;
  readonly #store: Store;
  readonly #logFile: LogFile | undefined;
  readonly #abort = new AbortController();
  readonly #reporter = new Reporter();
  #removing = false;
  #letGoAsked = false;
  #lettingGo = false;
  #succeeded = false;
  /** Nobody needs us: that is no error. */
  #dismissed = false;
  /** Set as long as we serve it. */
  #live: DeviceRecord | undefined;
  #signalledAt = Number.NEGATIVE_INFINITY;

  constructor(job: Job) {
    this.#job = job;
    this.#store = new Store(job.runDir);
    this.#logFile = job.log === "" ? undefined : new LogFile(job.log);
    logAsDaemon();
    // The runtime's own way to end would wait for the queues, with the device live and hanging.
    const onUncaught = (error: unknown) => this.#die(`an unexpected error: ${stackOf(error)}`);
    process.on("uncaughtException", onUncaught).on("unhandledRejection", onUncaught);
    // A target's code is no more allowed to end it.
    process.exit = (code) =>
      this.#die(stackOf(new Error(`the target called process.exit(${code ?? ""})`)));
    process.umask(0o077);
    // Started through /proc/self/exe, it would be called "exe" in ps and top.
    nameThread("ublk-bun");
    // No child of ours may keep the launcher waiting or the device locked.
    fcntl(REPORT_FD, F.SETFD, F.FD_CLOEXEC);
    if (job.locked) fcntl(LOCK_FD, F.SETFD, F.FD_CLOEXEC);
  }

  async run(): Promise<number> {
    let live: Device | undefined;
    let asked = false;
    const abort = () => this.#abort.abort(new UblkError("Interrupted: nothing was changed"));
    const onSignal = () => {
      asked = true;
      if (live !== undefined) void this.#onSignal(control, live);
      else abort();
    };
    // SIGHUP is the word of an interrupted `recover`: it ends a beginning, never a live disk.
    process.on("SIGTERM", onSignal).on("SIGINT", onSignal).on("SIGHUP", abort);
    const opened = await this.#openControl();
    if (opened === undefined) return _exit(EXIT.failed);
    using control = opened.control;
    const device = await this.#begin(control, opened.liburing);
    // At once: a queue that is beyond reach must not keep the process.
    if (device === undefined) return _exit(EXIT.failed);
    live = device;
    this.#live = device.record;
    if (asked) onSignal();
    this.#logFile?.watch();
    listen(this.#store.socketPath(device.id), this.#earOf(device));
    if (this.#job.ownNamespace) void watchOwnMounts(control, device.id);
    setTimeout(trimMemory, TRIM_AFTER_MS).unref();
    await device.served;
    if (this.#lettingGo) return await this.#leave(device);
    await device.close({ isLetGo: false });
    // Awaited here: it needs the control device, which this function closes.
    return await this.#end(control, device);
  }

  /** What we have let go of is free when this process has ended: nothing may keep it. */
  async #leave(device: Device): Promise<never> {
    // Also where a target's `close` returns to no timer of ours.
    alarm(CLOSE_SECONDS_MAX + 1);
    try {
      const closed = await within(CLOSE_SECONDS_MAX * 1000, device.close({ isLetGo: true }));
      if (closed === "late") log.warn(`the target has not closed after ${CLOSE_SECONDS_MAX} s`);
    } catch (error) {
      log.error(error);
    }
    log.info(`${diskPath(device.id)} is ${this.#succeeded ? "handed over" : "let go of"}`);
    return _exit(EXIT.ok);
  }

  /** Undefined when it cannot be opened, which has been reported then. */
  async #openControl(): Promise<{ control: Control; liburing: string } | undefined> {
    try {
      const { timeoutMs } = this.#job;
      const liburing = liburingPath(liburingOf(this.#job, this.#store) || undefined);
      return {
        control: await Control.open({ liburing: loadLiburing(liburing), timeoutMs }),
        liburing,
      };
    } catch (error) {
      this.#fail(error, { isRefused: isUnclaimed(this.#job) });
      return undefined;
    }
  }

  /** What was refused is not for the log of the disk, which somebody may be serving. */
  #fail(error: unknown, { isRefused }: { readonly isRefused: boolean }): void {
    if (this.#dismissed) log.info("not needed any more");
    else if (!isRefused) log.error(error);
    this.#reporter.sayError(error, isRefused ? stackOf : messageOf);
  }

  /** Adds or recovers; undefined when that failed, which has been reported then. */
  async #begin(control: Control, liburing: string): Promise<Device | undefined> {
    let device: Device | undefined;
    let claimed: Claimed | undefined;
    try {
      claimed = await this.#claimRecovery(control);
      this.#abort.signal.throwIfAborted();
      device = this.#device(control, liburing, claimed?.record);
      if (this.#job.verb === "add") {
        const identity = BigInt(`0x${this.#job.record.identity}`);
        await device.add(identity, (id) => this.#claim(id));
        tellAdded(this.#store.events, device.record);
      } else {
        await this.#recover(control, device, this.#job, claimed);
      }
      log.info(`live: ${diskPath(device.id)}, pid ${process.pid}, ${device.record.target}`);
      // What its launcher says then may be the next command.
      peek(() => claimed?.lock[Symbol.dispose]());
      this.#reporter.say({ kind: "live", id: device.id });
      return device;
    } catch (error) {
      // A recovery that fails ends here, and its process at once.
      device?.releaseClaim();
      peek(() => claimed?.lock[Symbol.dispose]());
      this.#fail(error, { isRefused: isUnclaimed(this.#job) && claimed === undefined });
      return undefined;
    } finally {
      if (this.#job.locked) close(LOCK_FD);
    }
  }

  /** Of a recovery that nobody has looked into yet. Its log is the device's own only from then on. */
  async #claimRecovery(control: Control): Promise<Claimed | undefined> {
    const job = this.#job;
    if (!isUnclaimed(job)) return undefined;
    const note = (text: string) => this.#reporter.say({ kind: "note", text, isWarning: true });
    const claimed = await claimRecovery(job, { control, store: this.#store, note });
    if (this.#logFile?.follow() === false) note(`its log cannot be opened: ${job.log}`);
    return claimed;
  }

  /** Both phases; between them, where the job says so, it waits for its moment. */
  async #recover(
    control: Control,
    device: Device,
    { role, locked, timeoutMs, record }: RecoverJob,
    claimed: Claimed | undefined,
  ): Promise<void> {
    const { events } = this.#store;
    if (role === "recover") tellRecovering(events, device.record);
    if (role === "recover") await device.fence();
    await device.prepareRecovery({ isChanged: claimed?.isChanged ?? record !== undefined });
    if (role !== "recover") {
      this.#reporter.say({ kind: "ready" });
      await this.#moment();
    }
    const isLocked = locked || role === "recover";
    using lock = isLocked
      ? undefined
      : await this.#store.lockSoon(device.id, "recover", timeoutMs, this.#abort.signal);
    void lock;
    if (role === "standby") {
      await assertStillDue(control, this.#store, device.record);
      tellRecovering(events, device.record);
      await device.fence();
    }
    await device.takeOver({ mustSave: claimed?.isChanged === true });
    const isStandby = role === "standby";
    tellRecovered(events, device.record, { startedAt: device.takingOverSince, isStandby });
  }

  async #moment(): Promise<void> {
    this.#dismissed = true;
    await untilTold(this.#abort.signal);
    this.#dismissed = false;
    this.#logFile?.follow();
  }

  #device(control: Control, liburing: string, found: DeviceRecord | undefined): Device {
    const job = this.#job;
    const record =
      found ?? job.record ?? (job.verb === "recover" ? this.#store.load(job.id) : undefined);
    if (record === undefined) {
      const which = job.verb === "recover" ? job.id : "";
      throw new UblkError(`There is no record of a device ${which}`, {
        exitCode: EXIT.notRecoverable,
      });
    }
    // A person's code may ask for memory for ever: then it is what the kernel ends, and nothing else.
    if (isOwnCode(record)) peek(() => writeFileSync("/proc/self/oom_score_adj", "0"));
    return new Device(record, {
      control,
      store: this.#store,
      liburing,
      timeoutMs: job.timeoutMs,
      force: job.force,
      signal: this.#abort.signal,
      once: job.verb === "recover" ? job.once : {},
      note: (text) => this.#reporter.say({ kind: "note", text }),
      onFatal: (reason) => this.#die(reason),
    });
  }

  /** ADD_DEV has given us `id`: its lock is ours until we are live, its log gets its name. */
  async #claim(id: number): Promise<DeviceLock | undefined> {
    const { locked, timeoutMs } = this.#job;
    // Whoever deleted the last device with this id may still be at its files.
    const lock = locked ? undefined : await this.#store.lockSoon(id, "add", timeoutMs);
    this.#logFile?.moveTo(this.#store.logPath(id));
    return lock;
  }

  async #onSignal(control: Control, device: Device): Promise<void> {
    const now = performance.now();
    const isSecond = now - this.#signalledAt < SECOND_SIGNAL_MS;
    this.#signalledAt = now;
    if (this.#removing) {
      // The removal that the first signal began may be all that is needed, unless it is stuck behind
      // requests that the target does not answer.
      this.#letGoAsked ||= isSecond;
      if (isSecond && inFlight(device.id) > 0) this.#letGo(device);
      return;
    }
    if (isSecond) return this.#letGo(device);
    this.#removing = true;
    try {
      const info = await control.run(getDevInfo, device.id, undefined);
      await stopDisk(info, this.#removeOptions(control));
    } catch (error) {
      this.#removing = false;
      const why = messageOf(error);
      log.warn(`asked to end, but ${why}; goes on serving (again within 10 s: let go)`);
      if (this.#letGoAsked) this.#letGo(device);
    }
  }

  #letGo(device: Device): void {
    if (this.#lettingGo) return;
    this.#lettingGo = true;
    const { id, target } = device.record;
    // Whoever watches must not bring back what somebody has just sent away.
    peek(() => markResting(this.#store, device.record));
    this.#store.events.add("quiesced", { id, target, pid: process.pid, how: "signals" });
    log.warn(`second signal: letting go of ${diskPath(device.id)}; to serve it again: recover`);
    // With recovery, what is not done by then is done again by the next server.
    setTimeout(() => _exit(EXIT.ok), LET_GO_MS_MAX).unref();
    device.letGo();
  }

  /** What whoever has a successor ready may ask. */
  #earOf(device: Device): Ear {
    const path = diskPath(device.id);
    let patience: ReturnType<typeof setTimeout> | undefined;
    const isEnding = () => this.#removing || this.#lettingGo;
    const ending = { ok: false, why: "it is ending already" } as const;
    const stay = () => {
      if (patience === undefined) return;
      clearTimeout(patience);
      patience = undefined;
      this.#lettingGo = false;
      device.stay();
    };
    const leave = () => {
      this.#lettingGo = true;
      this.#succeeded = true;
      device.letGo();
      return { ok: true } as const;
    };
    return {
      drain: async (timeoutMs) => {
        if (isEnding()) return ending;
        this.#lettingGo = true;
        log.info(`asked to let go of ${path} for a successor`);
        const undrained = await device.drain(timeoutMs);
        if (undrained === undefined) {
          // No new I/O is begun until somebody says what comes now.
          patience = setTimeout(stay, HOLD_MS_MAX);
          return { ok: true };
        }
        this.#lettingGo = false;
        const { why, isLate } = undrained;
        log.warn(`${why}; goes on serving`);
        return { ok: false, why, ...(!isLate && { exitCode: EXIT.failed }) };
      },
      go: () => {
        if (patience === undefined) return { ok: false, why: "it was kept waiting, and goes on" };
        clearTimeout(patience);
        patience = undefined;
        return leave();
      },
      stay,
      leave: () => {
        if (isEnding()) return ending;
        log.info(`${path} is held by the kernel: goes when what has begun is answered`);
        return leave();
      },
    };
  }

  #removeOptions(control: Control) {
    const { timeoutMs, liburing } = this.#job;
    return { control, store: this.#store, timeoutMs, force: false, liburing };
  }

  /** The Workers are done: what has become of the device? */
  async #end(control: Control, device: Device): Promise<number> {
    if (this.#removing) {
      try {
        await this.#delete(control, device.record);
        return EXIT.ok;
      } catch (error) {
        log.error(error);
        return EXIT.failed;
      }
    }
    try {
      const { state } = await control.run(getDevInfo, device.id, undefined);
      const path = diskPath(device.id);
      if (state === "DEAD") log.info(`${path} has left us: DEAD`);
      else log.info(`${path} was quiesced (${state}): its I/O waits for recover`);
    } catch {
      log.info(`${diskPath(device.id)} has been deleted`);
    }
    return EXIT.ok;
  }

  /** The second half of a removal, unless a `del` beside us is at it already. */
  async #delete(control: Control, record: DeviceRecord): Promise<void> {
    const { id } = record;
    using lock = await this.#store.lockSoon(id, "remove", this.#job.timeoutMs);
    void lock;
    const info = await findDevice(control, id);
    if (info === undefined || !isOurs(record, info)) {
      return log.info(`${diskPath(id)} has been deleted`);
    }
    await deleteStopped(info, this.#removeOptions(control));
  }

  /** A Worker is lost. No STOP, no DEL: the kernel keeps the device for `recover`. */
  #die(reason: string): never {
    log.warn("the process ends here; its device, if it is live, waits for recover");
    log.fatal(reason);
    if (this.#live) tellDied(this.#store.events, this.#live, reason.split("\n")[0]!);
    this.#reporter.sayError(new UblkError(reason));
    return _exit(FATAL_EXIT);
  }
}
