// add and recover from the launcher's side: everything that can be refused without a daemon is.

import type { DevInfo } from "../control/commands/dev-info.ts";
import { getDevInfo } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { EXIT, UblkError, UsageError } from "../errors.ts";
import type { FilterSpec } from "../filter.ts";
import { assertApart, targetOf } from "../filters/stack.ts";
import { log } from "../log.ts";
import { dataOf, type Spec } from "../target.ts";
import { checkBatch, checkCode, serverEnv, withCodeOfNow } from "./code.ts";
import { diskPath } from "./disk.ts";
import { assertOurs, identityText, newIdentity } from "./identity.ts";
import { checkFiles } from "./in-use.ts";
import { flagNames, serverPid } from "./inspect.ts";
import { Interrupt } from "./interrupt.ts";
import { launch, type Launched } from "./launch.ts";
import { chooseMode, isModeGranted, type Mode, modeOf } from "./modes.ts";
import { processName } from "./processes.ts";
import { chooseRecovery, recoveryFlags, recoveryOf } from "./recovery.ts";
import { type Retarget, retargeted } from "./retarget.ts";
import {
  bootId,
  type DeviceLock,
  type DeviceRecord,
  recordVersion,
  type Recovery,
  type Store,
} from "./store.ts";

/** What a person wants of a new device. */
export interface AddWish {
  /** -1: whichever is free. */
  readonly id: number;
  readonly target: string;
  readonly spec: Spec;
  readonly filters?: readonly FilterSpec[];
  readonly queues: number;
  readonly depth: number;
  readonly ioBufBytes: number;
  readonly ioDescBytes: number;
  /** "auto" and undefined: chosen by kernel and target. */
  readonly mode: Mode | "auto" | undefined;
  /** UBLK_F bits besides those of recovery and mode. */
  readonly flags: bigint;
  /** undefined: chosen by the target. */
  readonly recovery: Recovery | undefined;
  readonly stallTimeoutMs: number;
}

export interface BeginOptions {
  readonly control: Control;
  readonly store: Store;
  readonly timeoutMs: number;
  readonly liburing: string;
  readonly foreground: boolean;
}

export interface AddOptions extends BeginOptions {
  /** Also over files that another device uses. */
  readonly force: boolean;
  /** False: returns before the disk has been read, for targets that are slow on purpose. */
  readonly waits?: boolean;
}

export interface RecoverOptions extends AddOptions {
  /** Serve it as this, instead of what its record says. */
  readonly retarget?: Retarget | undefined;
  /** Goes before what the target's spec says, for this server alone: for targets that fail on purpose. */
  readonly once: Spec;
  /** Also when the target's code is not what it was. */
  readonly acceptChanges?: boolean;
}

const silent = () => {};

/** Makes a device and serves it in a daemon; returns when its disk can be read. */
export async function addDevice(wish: AddWish, options: AddOptions): Promise<Launched> {
  const { control, store, timeoutMs, liburing, force } = options;
  const target = targetOf(wish);
  const recovery = chooseRecovery(wish.recovery, target.repeatable?.(wish.spec) !== false, (text) =>
    log.warn(text),
  );
  recoveryFlags(recovery, control.features);
  const { name } = target;
  const mode = chooseMode(wish.mode, { name, data: dataOf(target, wish.spec) }, control.features);
  assertApart(wish);
  checkBatch(wish, wish.flags);
  const env = serverEnv(wish);
  assertKnown(wish.flags, control.features);
  store.prepare();
  const interrupt = new Interrupt();
  using lock = wish.id < 0 ? undefined : lockForAdd(store, wish.id);
  const record = {
    ...wish,
    version: recordVersion(wish),
    identity: identityText(newIdentity()),
    bootId: bootId(),
    mode,
    recovery,
    // Until the kernel has answered: what is asked for besides.
    flags: `0x${wish.flags.toString(16)}`,
    restarts: 0,
    liburing,
    log: "",
    program: process.execPath,
  } as const;
  // A second look, by the daemon, finds whoever is just doing the same; it is the one that warns.
  await checkFiles(record, { ...options, note: silent });
  const job = { verb: "add", runDir: store.dir, timeoutMs, liburing, record, force } as const;
  // Awaited here: the lock is ours until the daemon is live.
  return await launch({ ...options, job, lock, interrupt, env });
}

/** Serves a device again whose server is gone; returns when its disk can be read. */
export async function recoverDevice(id: number, options: RecoverOptions): Promise<Launched> {
  const { store, once } = options;
  await recoverable(id, { ...options, note: silent });
  store.prepare();
  using lock = store.lock(id, "recover");
  // Another recover may just have ended.
  const found = await recoverable(id, { ...options, note: (text) => log.warn(text) });
  const record = await withCodeOfNow(found);
  const isChanged = options.retarget !== undefined || record !== found;
  if (isChanged) await checkFiles(record, { ...options, note: silent });
  const strange = Object.keys(once).find((key) => record.spec[key] === undefined);
  if (strange !== undefined) {
    throw new UsageError(`Device ${id} is a ${record.target}: it has no "${strange}"`);
  }
  // Awaited here: the lock is ours until the daemon is live.
  return await recoverLocked(record, lock, { ...options, isChanged });
}

/** As `recoverDevice`, by whoever has the device's lock; `program`: another version of this one. */
export async function recoverLocked(
  record: DeviceRecord,
  lock: DeviceLock,
  options: Omit<RecoverOptions, "retarget"> & {
    /** The record is a new one: it is saved once the disk is live. */
    readonly isChanged: boolean;
    readonly program?: string;
  },
): Promise<Launched> {
  const { control, store, timeoutMs, foreground, force, once, isChanged, program } = options;
  const interrupt = new Interrupt();
  const job = {
    verb: "recover",
    runDir: store.dir,
    timeoutMs,
    liburing: options.liburing || record.liburing,
    id: record.id,
    role: "recover",
    force,
    once,
    ...(isChanged ? { record } : {}),
  } as const;
  const other = program === undefined ? {} : { program };
  const env = serverEnv(record);
  return await launch({ control, store, foreground, job, lock, interrupt, env, ...other });
}

/** The record to serve the device by. Refuses at once what no waiting can mend; touches nothing. */
async function recoverable(
  id: number,
  options: RecoverOptions & { readonly note: (text: string) => void },
): Promise<DeviceRecord> {
  const { control, store, retarget } = options;
  const info = await control.run(getDevInfo, id, undefined);
  const pid = serverPid(info);
  if (info.state === "LIVE" && pid > 0) {
    refuse(
      `Device ${id} is live: pid ${pid} (${processName(pid)}) serves ${diskPath(id)}`,
      "there is nothing to recover",
    );
  }
  const record = retarget ? retargeted(info, retarget, options) : ownRecord(info, store);
  if (record.recovery === "none") {
    refuse(
      `Device ${id} was added without recovery`,
      `delete it and add it again: ublk-bun del ${id}`,
    );
  }
  if (info.state === "DEAD") {
    refuse(
      `Device ${id} is DEAD: it was stopped, its disk is gone`,
      `delete it and add it again: ublk-bun del ${id}`,
    );
  }
  checkCode(record, options.acceptChanges === true);
  serverEnv(record);
  return record;
}

function ownRecord(info: DevInfo, store: Store): DeviceRecord {
  const record = store.load(info.id);
  const target = `ublk-bun recover ${info.id} --target TARGET`;
  const up = `ublk-bun del ${info.id} --force`;
  assertOurs(
    record,
    info,
    `nothing was changed; to say what it was made of: ${target}; to give the disk up: ${up}`,
  );
  const { queues, depth, ioBufBytes, ioDescBytes, flags } = info;
  const sizes = { queues, depth, ioBufBytes, ioDescBytes };
  const kernel = {
    ...sizes,
    flags: `0x${flags.toString(16)}`,
    recovery: recoveryOf(flags),
    mode: isModeGranted(record.mode, flags) ? record.mode : modeOf(flags),
  };
  const strange = (Object.keys(kernel) as (keyof typeof kernel)[]).find(
    (what) => record[what] !== kernel[what],
  );
  if (strange === undefined) return record;
  refuse(
    `The record of device ${info.id} does not fit it: ` +
      `${strange} is ${record[strange]} there, ${kernel[strange]} in the kernel`,
    `nothing was changed; to say what it was made of: ${target}; to give the disk up: ${up}`,
  );
}

/** Flags whose absence would otherwise go unseen: the kernel clears what it does not know. */
function assertKnown(flags: bigint, features: bigint): void {
  const unknown = flagNames(flags & ~features);
  if (unknown.length === 0) return;
  throw new UblkError(`This kernel does not have ${unknown.join(", ")}`, {
    exitCode: EXIT.notSupported,
    hint:
      "BATCH_IO and NO_AUTO_PART_SCAN came with Linux 7.0, IO_DESC_SIZE with 7.2; " +
      "see: ublk-bun features",
  });
}

function refuse(message: string, hint: string): never {
  throw new UblkError(message, { exitCode: EXIT.notRecoverable, hint });
}

function lockForAdd(store: Store, id: number): DeviceLock {
  try {
    return store.lock(id, "add");
  } catch (error) {
    if (!(error instanceof UblkError)) throw error;
    throw new UblkError(`Cannot add device ${id}, the id is taken: ${error.message}`, {
      exitCode: EXIT.busy,
      hint: "leave -n out to get a free one",
    });
  }
}
