// add and recover from the launcher's side: everything that can be refused without a daemon is.

import { getDevInfo } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { EXIT, UblkError, UsageError } from "../errors.ts";
import type { Spec } from "../target.ts";
import { findTarget } from "../targets/index.ts";
import { diskPath } from "./disk.ts";
import { assertOurs, identityText, newIdentity } from "./identity.ts";
import { flagNames, serverPid } from "./inspect.ts";
import { Interrupt } from "./interrupt.ts";
import { launch, type Launched } from "./launch.ts";
import { chooseMode, type Mode } from "./modes.ts";
import { processName } from "./processes.ts";
import { recoveryFlags } from "./recovery.ts";
import { bootId, type DeviceLock, type Recovery, type Store } from "./store.ts";

/** What a person wants of a new device. */
export interface AddWish {
  /** -1: whichever is free. */
  readonly id: number;
  readonly target: string;
  readonly spec: Spec;
  readonly queues: number;
  readonly depth: number;
  readonly ioBufBytes: number;
  readonly ioDescBytes: number;
  /** "auto" and undefined: chosen by kernel and target. */
  readonly mode: Mode | "auto" | undefined;
  /** UBLK_F bits besides those of recovery and mode. */
  readonly flags: bigint;
  readonly recovery: Recovery;
  readonly stallTimeoutMs: number;
}

export interface BeginOptions {
  readonly control: Control;
  readonly store: Store;
  readonly timeoutMs: number;
  readonly liburing: string;
  readonly foreground: boolean;
}

/** Makes a device and serves it in a daemon; returns when its disk can be read. */
export async function addDevice(wish: AddWish, options: BeginOptions): Promise<Launched> {
  const { control, store, timeoutMs, liburing } = options;
  recoveryFlags(wish.recovery, control.features);
  const mode = chooseMode(wish.mode, findTarget(wish.target), control.features);
  assertKnown(wish.flags, control.features);
  store.prepare();
  const interrupt = new Interrupt();
  using lock = wish.id < 0 ? undefined : lockForAdd(store, wish.id);
  const record = {
    ...wish,
    version: 1,
    identity: identityText(newIdentity()),
    bootId: bootId(),
    mode,
    // Until the kernel has answered: what is asked for besides.
    flags: `0x${wish.flags.toString(16)}`,
    restarts: 0,
    liburing,
    log: "",
    program: process.execPath,
  } as const;
  const job = { verb: "add", runDir: store.dir, timeoutMs, liburing, record } as const;
  // Awaited here: the lock is ours until the daemon is live.
  return await launch({ ...options, job, lock, interrupt });
}

/**
 * Serves a device again whose server is gone; returns when its disk can be read. What `once` has goes
 * before what the target's spec says, for this server alone: for targets that fail on purpose.
 */
export async function recoverDevice(
  id: number,
  options: BeginOptions & { readonly once: Spec },
): Promise<Launched> {
  const { control, store, timeoutMs, once } = options;
  await refuseIfHopeless(id, control, store);
  store.prepare();
  const interrupt = new Interrupt();
  using lock = store.lock(id, "recover");
  // Another recover may just have ended.
  await refuseIfHopeless(id, control, store);
  const record = store.load(id);
  const strange = Object.keys(once).find((key) => record?.spec[key] === undefined);
  if (strange !== undefined) {
    throw new UsageError(`Device ${id} is a ${record?.target}: it has no "${strange}"`);
  }
  const liburing = options.liburing || (record?.liburing ?? "");
  const job = { verb: "recover", runDir: store.dir, timeoutMs, liburing, id, once } as const;
  // Awaited here: the lock is ours until the daemon is live.
  return await launch({ ...options, job, lock, interrupt });
}

/** Refuses at once what no waiting can mend; touches nothing. */
async function refuseIfHopeless(id: number, control: Control, store: Store): Promise<void> {
  const info = await control.run(getDevInfo, id, undefined);
  const pid = serverPid(info);
  const remedy = "nothing was changed; to give the disk up: ublk-bun del ID --force";
  if (info.state === "LIVE" && pid > 0) {
    refuse(
      `Device ${id} is live: pid ${pid} (${processName(pid)}) serves ${diskPath(id)}`,
      "there is nothing to recover",
    );
  }
  assertOurs(store.load(id), info, remedy.replace("ID", String(id)));
  if (store.load(id)!.recovery === "none") {
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
}

/** Flags whose absence would otherwise go unseen: the kernel clears what it does not know. */
function assertKnown(flags: bigint, features: bigint): void {
  const unknown = flagNames(flags & ~features);
  if (unknown.length === 0) return;
  throw new UblkError(`This kernel does not have ${unknown.join(", ")}`, {
    exitCode: EXIT.notSupported,
    hint: "NO_AUTO_PART_SCAN came with Linux 7.0, IO_DESC_SIZE with 7.2; see: ublk-bun features",
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
