// add from the launcher's side: everything that can be refused without a daemon is.

import type { Control } from "../control/control.ts";
import { EXIT, UblkError } from "../errors.ts";
import type { FilterSpec } from "../filter.ts";
import { assertApart, targetOf } from "../filters/stack.ts";
import { log } from "../log.ts";
import { dataOf, type Spec } from "../target.ts";
import { checkBatch, serverEnv } from "./code.ts";
import { identityText, newIdentity } from "./identity.ts";
import { checkFiles } from "./in-use.ts";
import { flagNames } from "./inspect.ts";
import { Interrupt } from "./interrupt.ts";
import { threadsOf } from "./job.ts";
import { launch, type Launched } from "./launch.ts";
import { chooseMode, type Mode } from "./modes.ts";
import { chooseRecovery, recoveryFlags } from "./recovery.ts";
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
  const common = { runDir: store.dir, timeoutMs, liburing, force };
  const job = { verb: "add", ...common, record, threadsAhead: threadsOf(wish) } as const;
  // Awaited here: the lock is ours until the daemon is live.
  const openControl = async () => control;
  return await launch({ ...options, openControl, job, lock, interrupt, env });
}

/** Serves a device again, for whoever has looked at it and has its lock; by `program`, another version of this one. */
export async function recoverLocked(
  record: DeviceRecord,
  lock: DeviceLock,
  options: BeginOptions & { readonly program?: string },
): Promise<Launched> {
  const { control, store, timeoutMs, program } = options;
  const job = {
    verb: "recover",
    runDir: store.dir,
    timeoutMs,
    liburing: options.liburing || record.liburing,
    id: record.id,
    role: "recover",
    force: false,
    once: {},
    threadsAhead: threadsOf(record),
  } as const;
  const other = program === undefined ? {} : { program };
  // The disk has no server now: whoever is impatient would be left without one.
  const [interrupt, env] = [new Interrupt({ isDeaf: true }), serverEnv(record)];
  const openControl = async () => control;
  return await launch({ ...options, openControl, job, lock, interrupt, env, ...other });
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
