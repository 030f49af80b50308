// upgrade: another server process, of the same or of a newer version, takes a live device over.
//
// The successor gets ready while the old server serves. Then it is told to go, and asks the kernel for
// the device again and again; only then is the old one asked to let go. Whoever dies between: either
// the old one serves on, or the successor takes over.

import { begun } from "../begun.ts";
import type { DevInfo } from "../control/commands/dev-info.ts";
import { getDevInfo } from "../control/commands/index.ts";
import { EXIT, messageOf, UblkError } from "../errors.ts";
import { close, O, open } from "../ffi/libc.ts";
import { UBLK_F } from "../ffi/ublk.ts";
import { log } from "../log.ts";
import { type BeginOptions, recoverLocked } from "./begin.ts";
import { serverEnv, withCodeOfNow } from "./code.ts";
import { within } from "./deadline.ts";
import { diskPath } from "./disk.ts";
import { assertOurs } from "./identity.ts";
import { serverPid } from "./inspect.ts";
import { isBatch } from "./modes.ts";
import { isAlive } from "./processes.ts";
import { holdNew, lateError } from "./quiesce.ts";
import { recoveryOf } from "./recovery.ts";
import { askToDrain, askToLeave } from "./remote.ts";
import type { DeviceLock } from "./store.ts";
import { Successor } from "./successor.ts";

const GONE_LOOK_MS = 2;

export interface UpgradeOptions extends Omit<BeginOptions, "foreground"> {
  /** The program that is to serve from now on; undefined: this one. */
  readonly binary: string | undefined;
  /** How long what has begun may take; then the old server goes on. */
  readonly drainTimeoutMs: number;
  /** Also where requests may fail meanwhile. */
  readonly allowErrors: boolean;
}

export interface Upgraded {
  readonly id: number;
  readonly oldPid: number;
  readonly serverPid: number;
  /** From the moment the old server is asked to let go until the new one serves. */
  readonly pauseMs: number;
}

/** Throws UblkError; the old server goes on serving then, or the error says what became of the disk. */
export async function upgradeDevice(id: number, options: UpgradeOptions): Promise<Upgraded> {
  const { control, store, timeoutMs, drainTimeoutMs } = options;
  const before = await control.run(getDevInfo, id, undefined);
  assertUpgradable(before, options);
  using lock = store.lock(id, "upgrade");
  const info = await control.run(getDevInfo, id, undefined);
  assertUpgradable(info, options);
  const oldPid = serverPid(info);
  const found = store.load(id)!;
  const env = serverEnv(found);
  const record = await withCodeOfNow(found);
  // Held open: by the time it is needed its file may have been replaced, and its process be gone.
  const oldProgram = open(`/proc/${oldPid}/exe`, O.RDONLY | O.CLOEXEC);
  try {
    const successor = await Successor.start({
      id,
      store,
      timeoutMs: timeoutMs + drainTimeoutMs,
      liburing: options.liburing || found.liburing,
      lock,
      role: "successor",
      env,
      ...(record === found ? {} : { record }),
      ...(options.binary === undefined ? {} : { program: options.binary }),
    });
    const program = oldProgram < 0 ? undefined : `/proc/${process.pid}/fd/${oldProgram}`;
    const pauseMs = await handOver(info, successor, options, { lock, program });
    return { id, oldPid, serverPid: successor.pid, pauseMs };
  } finally {
    if (oldProgram >= 0) close(oldProgram);
  }
}

/** No signal stops us half-way. */
const onSignal = () => log.info("the hand-over has begun: it is finished first");

async function handOver(
  info: DevInfo,
  successor: Successor,
  options: UpgradeOptions,
  old: { readonly lock: DeviceLock; readonly program: string | undefined },
): Promise<number> {
  const { timeoutMs, drainTimeoutMs } = options;
  // When the pause began; undefined: the old server serves.
  let began: number | undefined;
  let live: Promise<void> | undefined;
  begun.is = true;
  process.on("SIGINT", onSignal).on("SIGTERM", onSignal);
  try {
    began = await (needsQuiesce(info) ? letGoHeld : letGoKept)(info, successor, options);
    live = successor.live();
    if ((await within(timeoutMs, live)) !== "late") return performance.now() - began;
    throw new UblkError(`The new server, pid ${successor.pid}, does not take over`, {
      exitCode: EXIT.timedOut,
    });
  } catch (error) {
    successor.abandon();
    const isOver = Promise.race([successor.exited, ...(live ? [live] : [])]);
    await within(drainTimeoutMs, isOver).catch(() => {});
    if (began !== undefined) {
      await untilGone(serverPid(info), timeoutMs);
      const now = await options.control.run(getDevInfo, info.id, undefined);
      // Late, but it has.
      if (now.state === "LIVE" && serverPid(now) === successor.pid)
        return performance.now() - began;
    }
    throw await recoveredByOld(error, info, options, old);
  } finally {
    process.off("SIGINT", onSignal).off("SIGTERM", onSignal);
  }
}

/**
 * The old server keeps what is new, for the kernel to deliver again, and goes. Returns when the pause began;
 * throws when it goes on serving.
 */
async function letGoKept(
  { id }: DevInfo,
  successor: Successor,
  options: UpgradeOptions,
): Promise<number> {
  await successor.go();
  const began = performance.now();
  using drained = await askToDrain(id, options);
  await successor.assertAlive();
  await drained.letGo();
  return began;
}

/**
 * Without reissue, what a dying server leaves undone fails: the kernel must hold new requests back before
 * the old server goes. There is no way back from that, so it is tried first whether what has begun ends in
 * time. Returns when the pause began; throws when the old server does not go.
 */
async function letGoHeld(
  info: DevInfo,
  successor: Successor,
  options: UpgradeOptions,
): Promise<number> {
  const { id } = info;
  const { control, drainTimeoutMs } = options;
  const tried = await askToDrain(id, options);
  try {
    await successor.go();
    await successor.assertAlive();
  } finally {
    tried[Symbol.dispose]();
  }
  const began = performance.now();
  await holdNew(control, id);
  // It goes by itself when the kernel has taken every tag back, perhaps before it hears us.
  await askToLeave(id, options).catch(() => {});
  const pid = serverPid(info);
  await untilGone(pid, drainTimeoutMs);
  if (isAlive(pid)) throw lateError(id, pid, drainTimeoutMs);
  return began;
}

/** It answers before it goes: until then the kernel calls the device live. */
async function untilGone(pid: number, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (isAlive(pid) && performance.now() < deadline) await Bun.sleep(GONE_LOOK_MS);
}

const needsQuiesce = (info: DevInfo) => recoveryOf(info.flags) === "queue" && canQuiesce(info);

/** With UBLK_F_BATCH_IO, Linux 7.3 fails what it should hold. */
const canQuiesce = ({ flags }: DevInfo) => (flags & UBLK_F.QUIESCE) !== 0n && !isBatch(flags);

function assertUpgradable(info: DevInfo, { store, allowErrors }: UpgradeOptions): void {
  const { id } = info;
  assertOurs(store.load(id), info, "nothing was changed");
  if (info.state !== "LIVE" || serverPid(info) < 0) {
    throw new UblkError(`Device ${id} has no server that could hand it over: it is ${info.state}`, {
      exitCode: EXIT.notRecoverable,
      hint: info.state === "DEAD" ? `run: ublk-bun del ${id}` : `run: ublk-bun recover ${id}`,
    });
  }
  const recovery = recoveryOf(info.flags);
  if (recovery === "none") {
    throw new UblkError(`Device ${id} was added without recovery: it cannot change its server`, {
      exitCode: EXIT.notSupported,
      hint: "delete it and add it again with --recovery=reissue",
    });
  }
  if (recovery === "reissue" || allowErrors || needsQuiesce(info)) return;
  throw new UblkError(
    `Device ${id} has --recovery=${recovery}: requests that come during the hand-over would fail`,
    {
      exitCode: EXIT.notSupported,
      hint: "use --allow-errors if that is acceptable; with --recovery=reissue nothing fails",
    },
  );
}

/** The error to throw; where the disk is without a server, the old program serves it again first. */
async function recoveredByOld(
  error: unknown,
  info: DevInfo,
  options: UpgradeOptions,
  { lock, program }: { readonly lock: DeviceLock; readonly program: string | undefined },
): Promise<unknown> {
  const { id } = info;
  const now = await options.control.run(getDevInfo, id, undefined);
  if (now.state === "LIVE" && isAlive(serverPid(now))) return error;
  const why = messageOf(error);
  try {
    const record = options.store.load(id)!;
    const other = program === undefined ? {} : { program };
    await recoverLocked(record, lock, { ...options, foreground: false, ...other });
  } catch (second) {
    return new UblkError(
      `${why}; and the old program could not take ${diskPath(id)} back: ${messageOf(second)}`,
      { cause: error, hint: `its I/O waits; run: ublk-bun recover ${id}` },
    );
  }
  return new UblkError(`${why}; the old program serves ${diskPath(id)} again`, {
    cause: error,
    hint: "nothing was lost",
  });
}
