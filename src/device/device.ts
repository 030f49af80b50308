// A device with us as its server: added or recovered, serving, ended.
//
// Both beginnings walk the same path: tags fetched by the Workers, then START_DEV or
// END_USER_RECOVERY. A failed add leaves nothing behind; a failed recover leaves everything as it was.

import type { DevInfo } from "../control/commands/dev-info.ts";
import {
  addDev,
  ANY_DEVICE,
  endUserRecovery,
  getDevInfo,
  setParams,
  startDev,
} from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { messageOf, UblkError } from "../errors.ts";
import { close } from "../ffi/libc.ts";
import { type DiskTarget, targetOf } from "../filters/stack.ts";
import { log } from "../log.ts";
import type { Backing, Spec } from "../target.ts";
import { openCharDevice, queueAffinities, spentError, startRecovery, untilLeft } from "./attach.ts";
import { cleanUpMs, within } from "./deadline.ts";
import { fenced } from "./fence.ts";
import { Helper } from "./helper.ts";
import { assertOurs, deviceOf } from "./identity.ts";
import { claimFiles } from "./in-use.ts";
import { serverPid } from "./inspect.ts";
import { checkModeGranted, isBatch, MODES } from "./modes.ts";
import { untilDead } from "./old-kernel.ts";
import { openDisk } from "./open-disk.ts";
import { toParams } from "./params.ts";
import { checkGranted, recoveryFlags } from "./recovery.ts";
import { unmarkResting } from "./resting.ts";
import { assertSameShape } from "./shape.ts";
import { type DeviceState, next } from "./state.ts";
import { type DeviceLock, type DeviceRecord, type Store } from "./store.ts";
import { Workers } from "./workers.ts";

export interface DeviceOptions {
  readonly control: Control;
  readonly store: Store;
  /** Path for `loadLiburing`. */
  readonly liburing: string;
  /** Deadline of each step that waits for somebody else. */
  readonly timeoutMs: number;
  /** Ends a beginning that is under way. */
  readonly signal: AbortSignal;
  /** What the target's spec says otherwise, this time only. */
  readonly once: Spec;
  /** Also over files that another device uses. */
  readonly force: boolean;
  /** Tells the person at the prompt what is being waited for. */
  readonly note: (text: string) => void;
  /** A Worker is lost: must end the process. */
  readonly onFatal: (reason: string) => never;
}

export class Device {
  record: DeviceRecord;
  /** When START_USER_RECOVERY was first sent; 0: not yet. */
  takingOverSince = 0;
  readonly #options: DeviceOptions;
  readonly #target: DiskTarget;
  readonly #workers: Workers;
  /** The target has failed before the device was live. */
  readonly #broken = new AbortController();
  #state: DeviceState = "new";
  #backing: Backing | undefined;
  #charFd = -1;
  /** Held until the record says what the target uses. */
  #claim: DeviceLock | undefined;
  /** Who serves the device that we prepare for; -1: nobody. */
  #predecessor = -1;
  /** The record is a new one, which nobody has saved yet. */
  #isChanged = false;
  #affinities: readonly Uint8Array[] | undefined;

  constructor(record: DeviceRecord, options: DeviceOptions) {
    this.record = record;
    this.#options = options;
    this.#target = targetOf(record);
    this.#workers = new Workers({
      control: options.control,
      queues: record.queues,
      stallTimeoutMs: this.#target.mayBlock ? 0 : record.stallTimeoutMs,
      onFatal: options.onFatal,
      onBroken: (reason) => this.#broken.abort(new UblkError(`The target failed: ${reason}`)),
      describeCall: (op) => this.#target.describeCall?.(op) ?? "the target does not return",
    });
  }

  get id(): number {
    return this.record.id;
  }

  /** What the target is opened and served with. */
  get #spec(): Spec {
    return { ...this.record.spec, ...this.#options.once };
  }

  /** Where a disk of functions is opened: in the threads that serve it. */
  get #hosting(): "one" | "each" | undefined {
    return this.#target.hosting?.(this.#spec);
  }

  /** Creates the device and serves it. `onId` hears its id before anything is kept under it. */
  async add(
    identity: bigint,
    onId: (id: number) => Promise<DeviceLock | undefined>,
  ): Promise<void> {
    const { control, store, signal } = this.#options;
    const { record } = this;
    const backing = await this.#openTarget({ isNew: true });
    const info = await this.#create(identity);
    this.#state = next(this.#state, "added");
    const { facts } = backing;
    this.record = { ...record, ...kernelFacts(info), facts, log: store.logPath(info.id) };
    let lock: DeviceLock | undefined;
    try {
      lock = await onId(info.id);
      checkGranted(record.recovery, info.flags);
      checkModeGranted(record.mode, info.flags);
      this.#noteDifferences(record, info);
      await control.run(setParams, this.id, toParams(backing.geometry, info.ioBufBytes));
      store.save(this.record);
      this.releaseClaim();
      await this.#prepareWorkers(info, backing);
      signal.throwIfAborted();
      await this.#prime(info, signal);
      signal.throwIfAborted();
      await this.#start(signal);
    } catch (error) {
      await this.#undo(error, { isLocked: lock !== undefined || record.id >= 0 });
      throw error;
    } finally {
      this.releaseClaim();
      lock?.[Symbol.dispose]();
    }
  }

  /** Makes sure that a dead server's requests are over, where the target knows how. */
  async fence(): Promise<void> {
    const [target, { spec }] = [this.#target, this.record];
    if (target.fence === undefined || target.hasFence?.(spec) === false) return;
    await untilLeft(this.#options.control, this.id, this.#options);
    await fenced(this.id, target.fence(spec, this.record), this.#options);
  }

  /**
   * The first phase of a recovery: all that can fail without the device. It may be live still, with
   * the server that is to be succeeded; nothing of it is changed. `isChanged`: the record is a new one,
   * which nobody has saved yet.
   */
  async prepareRecovery({ isChanged }: { readonly isChanged: boolean }): Promise<void> {
    const { control } = this.#options;
    // A thread takes as long to start as all of what follows here. One for a file begins with its `open`.
    if (this.#hosting === undefined) this.#workers.start(this.record.queues);
    this.#isChanged = isChanged;
    if (isChanged) this.#claim = await claimFiles(this.record, this.#options);
    const info = await control.run(getDevInfo, this.id, undefined);
    assertOurs(this.record, info, "nothing was changed");
    this.#state = next(this.#state, "adopted");
    this.#predecessor = serverPid(info);
    const { geometry } = await this.#openTarget({ isNew: false });
    // Before anybody lets go of a device that is served.
    await assertSameShape(control, info, geometry);
    this.#affinities = await queueAffinities(control, this.id, info.queues);
    await this.#prepareWorkers(info, this.#backing!);
  }

  /**
   * The second phase: takes over a device whose server is gone, or is just going. `mustSave`: what is to be
   * served by a new record is not served where that cannot be written.
   */
  async takeOver({ mustSave }: { readonly mustSave: boolean }): Promise<void> {
    const { control, store, timeoutMs, signal, note } = this.#options;
    const info = await control.run(getDevInfo, this.id, undefined);
    assertOurs(this.record, info, "nothing was changed");
    await assertSameShape(control, info, this.#backing!.geometry);
    signal.throwIfAborted();
    await untilDead(control, this.#predecessor, { timeoutMs, signal });
    this.takingOverSince = Date.now();
    await startRecovery(control, this.id, { timeoutMs, note, signal });
    this.#state = next(this.#state, "recover");
    signal.throwIfAborted();
    this.#workers.live();
    // No way back from here: 6.12 does not forgive a server that fetches and goes before END.
    await this.#primeAgain(info, { mustSave });
    await control.run(endUserRecovery, this.id, { pid: process.pid });
    this.#state = next(this.#state, "started");
    unmarkResting(store, this.id);
    try {
      this.#save({ restarts: this.record.restarts + 1 });
    } catch (error) {
      // The disk is served; that is what counts.
      log.warn(`the restart is not counted in the record: ${messageOf(error)}`);
    }
    this.releaseClaim();
  }

  /** Keeps what the disk is served as by now. */
  #save({ restarts }: Pick<DeviceRecord, "restarts">, hint?: string): void {
    const { facts } = this.#backing!;
    this.record = { ...this.record, restarts, program: process.execPath, facts };
    this.#options.store.save(this.record, hint);
  }

  /** Resolves when the device has left us, by a stop or because we let go. */
  get served(): Promise<void> {
    return this.#workers.gone;
  }

  /** When it has left us. What we have let go of stays ours until the process ends, the target apart. */
  async close({ isLetGo }: { readonly isLetGo: boolean }): Promise<void> {
    if (!isLetGo) close(this.#charFd);
    this.#charFd = -1;
    await this.#backing?.[Symbol.asyncDispose]();
  }

  /**
   * Ends what the target has begun, flushes it and keeps what is new. Otherwise why not, `isLate` where
   * `timeoutMs` was too short; what was kept is started then, and all goes on as before.
   */
  async drain(timeoutMs: number): Promise<{ why: string; isLate: boolean } | undefined> {
    const outcome = await within(timeoutMs, this.#workers.drain());
    if (outcome !== "late" && outcome.unflushed === undefined) return undefined;
    this.stay();
    return outcome === "late"
      ? { why: `its requests did not end within ${timeoutMs / 1000} s`, isLate: true }
      : { why: outcome.unflushed!, isLate: false };
  }

  /** Takes `drain` back. */
  stay(): void {
    this.#workers.stay();
  }

  /** Lets go of a live device: the kernel keeps it for the next server, once this process has ended. */
  letGo(): void {
    this.#workers.leave();
  }

  async #openTarget({ isNew }: { readonly isNew: boolean }): Promise<Backing> {
    const { note, force, timeoutMs, liburing } = this.#options;
    this.#backing = await openDisk(this.record, this.#workers, {
      spec: this.#spec,
      isNew,
      isForced: force,
      note,
      timeoutMs,
      liburing,
    });
    return this.#backing;
  }

  /** ADD_DEV; what the target has made for the device goes where there is none. */
  async #create(identity: bigint): Promise<DevInfo> {
    const { control, signal } = this.#options;
    const { record } = this;
    const id = record.id < 0 ? ANY_DEVICE : record.id;
    const { queues, depth, ioBufBytes, ioDescBytes } = record;
    const flags =
      recoveryFlags(record.recovery, control.features) |
      MODES[record.mode].flags |
      BigInt(record.flags);
    try {
      signal.throwIfAborted();
      this.#claim = await claimFiles(record, this.#options);
      const request = { id, queues, depth, ioBufBytes, ioDescBytes, flags, identity };
      return await control.run(addDev, id, request);
    } catch (error) {
      this.releaseClaim();
      await this.#target.remove?.(record.spec, record);
      throw error;
    }
  }

  /** Whoever waits to use files for another device gets on. */
  releaseClaim(): void {
    this.#claim?.[Symbol.dispose]();
    this.#claim = undefined;
  }

  async #prepareWorkers(info: DevInfo, backing: Backing): Promise<void> {
    await this.#workers.prepare({
      queues: info.queues,
      deviceId: info.id,
      depth: info.depth,
      ioBufBytes: info.ioBufBytes,
      ioDescBytes: info.ioDescBytes,
      mode: this.record.mode,
      isBatch: isBatch(info.flags),
      liburing: this.#options.liburing,
      target: this.record.target,
      spec: this.#spec,
      facts: backing.facts,
      fds: backing.fds,
      fanOut: this.#target.fanOut?.(this.record.spec, backing.geometry) ?? 1,
    });
  }

  /** The kernel caps what it is asked for. */
  #noteDifferences(asked: DeviceRecord, granted: DevInfo): void {
    for (const what of ["queues", "depth", "ioBufBytes"] as const) {
      if (asked[what] === granted[what]) continue;
      const why = what === "queues" ? " (at most one a CPU)" : "";
      this.#options.note(`the kernel gave ${what} ${granted[what]} of ${asked[what]}${why}`);
    }
  }

  /** START_DEV, given up at once when the target fails meanwhile. */
  async #start(interrupted: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([interrupted, this.#broken.signal]);
    const request = { pid: process.pid };
    try {
      await this.#options.control.run(startDev, this.id, request, { signal });
    } finally {
      signal.throwIfAborted();
    }
    if (!this.#workers.live()) {
      await new Promise((resolve) => {
        signal.addEventListener("abort", resolve, { once: true });
      });
      signal.throwIfAborted();
    }
    this.#state = next(this.#state, "started");
  }

  /** `prime` for a device that had a server before. */
  async #primeAgain(info: DevInfo, { mustSave }: { readonly mustSave: boolean }): Promise<void> {
    // Known before anybody can write to what it makes of the disk.
    const save = () => {
      try {
        if (this.#isChanged) this.#save(this.record, UNSAVED);
      } catch (error) {
        if (mustSave) throw error;
      }
    };
    try {
      await this.#prime(info, new AbortController().signal, save);
    } catch (error) {
      throw spentError(this.id, error) ?? error;
    }
  }

  /** `beforeFetch` may still throw: nothing is served then, and the device is as it was. */
  async #prime(info: DevInfo, signal: AbortSignal, beforeFetch?: () => void): Promise<void> {
    const { control, timeoutMs } = this.#options;
    this.#charFd = await openCharDevice(this.id, { timeoutMs, signal });
    this.#affinities ??= await queueAffinities(control, this.id, info.queues);
    beforeFetch?.();
    await this.#workers.prime(this.#charFd, this.#affinities);
    this.#state = next(this.#state, "primed");
  }

  /** Takes a half-made device back. */
  async #undo(cause: unknown, { isLocked }: { readonly isLocked: boolean }): Promise<void> {
    const { control, store } = this.#options;
    const { liburing } = this.record;
    const timeoutMs = cleanUpMs(this.#options.timeoutMs);
    const device = deviceOf(this.record);
    // START_DEV may still sit in a read of the partition table, which only an answer ends.
    this.#workers.refuse();
    try {
      await using helper = new Helper(device, { control, timeoutMs, liburing });
      await helper.send("stop");
      this.#workers.end();
      const ended = await within(timeoutMs, this.#workers.gone);
      if (ended === "late") throw new UblkError("its queues do not end");
      if (this.#charFd >= 0) close(this.#charFd);
      this.#charFd = -1;
      await helper.send("del");
      await this.#target.remove?.(this.record.spec, this.record);
      // Without the lock, what lies there is of whoever has it.
      if (isLocked) store.remove(this.id);
    } catch (error) {
      throw new UblkError(
        `${messageOf(cause)}; and the half-made device ` +
          `${this.id} could not be removed: ${messageOf(error)}`,
        { cause, hint: `run: ublk-bun del ${this.id} --force` },
      );
    }
  }
}

/** Not in another folder: the old record would stay, and be recovered by. */
const UNSAVED = "nothing was changed; make room there, then recover again";

/** What of the record the kernel has the last word on. */
function kernelFacts(info: DevInfo) {
  return {
    id: info.id,
    queues: info.queues,
    depth: info.depth,
    ioBufBytes: info.ioBufBytes,
    ioDescBytes: info.ioDescBytes,
    flags: `0x${info.flags.toString(16)}`,
  };
}
