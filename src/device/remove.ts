// Stopping and deleting a device, by its daemon or from a prompt.

import type { DevInfo } from "../control/commands/dev-info.ts";
import { getDevInfo } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { EXIT, KernelError, UblkError } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";
import { UBLK_F } from "../ffi/ublk.ts";
import { findTarget, targets } from "../targets/index.ts";
import { diskPath } from "./disk.ts";
import { findDevice } from "./find-device.ts";
import { Helper } from "./helper.ts";
import { diskHolders } from "./holders.ts";
import { assertOurs, isOurs } from "./identity.ts";
import { serverPid } from "./inspect.ts";
import { peek } from "./processes.ts";
import { isDaemon } from "./self.ts";
import { standbysOf } from "./standby-processes.ts";
import type { DeviceRecord, Store } from "./store.ts";

const DAEMON_END_MS_MAX = 5000;

export interface RemoveOptions {
  readonly control: Control;
  readonly store: Store;
  readonly timeoutMs: number;
  /** Go ahead although the disk is open, or the device is not ours. */
  readonly force: boolean;
  /** --liburing, for the helper; "" for the built-in one. */
  readonly liburing: string;
}

/** Removes the disk; the device stays, DEAD. Throws with exit 5 naming who has it open. */
export async function stopDisk(info: DevInfo, options: RemoveOptions): Promise<void> {
  await using helper = new Helper(info, options);
  await stopBy(helper, info, options);
}

async function stopBy(helper: Helper, info: DevInfo, options: RemoveOptions): Promise<void> {
  const { control, force } = options;
  if (force || info.state === "DEAD") return helper.send("stop");
  const canTry = (control.features & UBLK_F.SAFE_STOP_DEV) !== 0n;
  // Without TRY_STOP_DEV the kernel cannot be asked for ordinary openers: /proc must tell.
  if (!canTry && diskHolders(info.id).length > 0) throw openError(info.id);
  try {
    await helper.send(canTry ? "try-stop" : "stop-unused");
  } catch (error) {
    if (error instanceof KernelError && error.errno === ERRNO.EBUSY) throw openError(info.id);
    throw error;
  }
}

/** `stop`: returns false when it was stopped already. */
export async function stopDevice(id: number, options: RemoveOptions): Promise<boolean> {
  const pid = await stopLocked(id, options);
  if (pid === undefined) return false;
  await daemonEnded(pid);
  return true;
}

/** Who has served it, or undefined when it was stopped already. */
async function stopLocked(id: number, options: RemoveOptions): Promise<number | undefined> {
  using lock = options.store.lock(id, "stop");
  void lock;
  const info = await checkedDevice(id, options);
  if (info.state === "DEAD") return undefined;
  const pid = serverPid(info);
  await stopDisk(info, options);
  await standbysEnded(id, options.store);
  const target = options.store.loadIfUsable(id)?.target ?? null;
  options.store.events.add("stopped", { id, target, pid: pid > 0 ? pid : null });
  return pid;
}

export interface DeleteOptions extends RemoveOptions {
  /** Return while the kernel still waits for whoever holds the device; its id stays taken so long. */
  readonly async?: boolean;
}

/** `del`: stops the disk, deletes the device, forgets its record. */
export async function deleteDevice(id: number, options: DeleteOptions): Promise<void> {
  options.store.prepare();
  const pid = await deleteLocked(id, options);
  // Without the lock: a daemon that was told to remove its disk wants it, too.
  if (options.async !== true) await daemonEnded(pid);
}

/** Who has served it; -1: nobody. */
async function deleteLocked(id: number, options: DeleteOptions): Promise<number> {
  const { control, store } = options;
  using lock = store.lock(id, "del");
  void lock;
  const record = loadIfUsable(options, id);
  const info = await findDevice(control, id);
  if (info === undefined) {
    if (record !== undefined) {
      await forget(record, options);
      store.events.add("deleted", { id, target: record.target });
      return -1;
    }
    // A record that cannot be read, of a device that is not there: only --force comes here with one.
    if (options.force && store.has(id)) {
      store.remove(id);
      return -1;
    }
  }
  const checked = await checkedDevice(id, options);
  const isOpen = options.force && diskHolders(id).length > 0;
  const mustNotWait = isOpen || options.async === true;
  const pid = serverPid(checked);
  await using helper = new Helper(checked, options);
  await stopBy(helper, checked, options);
  await deleteBy(helper, id, options, { mustNotWait });
  return pid;
}

/** The second half of `del`, for whoever has the lock: the disk is gone, STOP has returned 0. */
export async function deleteStopped(info: DevInfo, options: RemoveOptions): Promise<void> {
  await using helper = new Helper(info, options);
  await deleteBy(helper, info.id, options, { mustNotWait: false });
}

async function deleteBy(
  helper: Helper,
  id: number,
  options: RemoveOptions,
  { mustNotWait }: { readonly mustNotWait: boolean },
): Promise<void> {
  const { control, store } = options;
  const record = loadIfUsable(options, id);
  const info = await control.run(getDevInfo, id, undefined);
  const { state } = info;
  if (state !== "DEAD") {
    throw new UblkError(`Device ${id} is ${state} again: somebody started it`, {
      exitCode: EXIT.busy,
    });
  }
  await standbysEnded(id, store);
  // DEL_DEV would wait until whoever has the disk open closes it, and only then free the id.
  await helper.send(mustNotWait ? "del-async" : "del");
  // The record of an earlier device may speak of what somebody still needs.
  const isRecorded = isOurs(record, info);
  if (isRecorded) await forget(record, options);
  store.remove(id);
  // One that `watch` has started meanwhile, not knowing yet; from now on it knows.
  await standbysEnded(id, store);
  store.events.add("deleted", { id, target: isRecorded ? record.target : null });
}

/** The daemon has let go of everything by now, and ends by itself: whoever looks next sees none. */
async function daemonEnded(pid: number): Promise<void> {
  const deadline = performance.now() + DAEMON_END_MS_MAX;
  while (isDaemon(pid) && performance.now() < deadline) await Bun.sleep(2);
}

/** Whoever stops a disk has its files to himself: no standby of `watch` has them open any more. */
async function standbysEnded(id: number, { dir }: Store): Promise<void> {
  const standbys = standbysOf(id, dir);
  for (const pid of standbys) peek(() => process.kill(pid, "SIGHUP"));
  for (const pid of standbys) await daemonEnded(pid);
}

/** The device, if it may be touched: it must be ours, or --force be given. */
async function checkedDevice(id: number, options: RemoveOptions): Promise<DevInfo> {
  const info = await options.control.run(getDevInfo, id, undefined);
  if (!options.force) {
    assertOurs(options.store.load(id), info, "nothing was changed; to do it all the same: --force");
  }
  return info;
}

/** A damaged record must not keep `--force` from working. */
function loadIfUsable({ store, force }: RemoveOptions, id: number): DeviceRecord | undefined {
  try {
    return store.load(id);
  } catch (error) {
    if (force) return undefined;
    throw error;
  }
}

async function forget(record: DeviceRecord, { store }: RemoveOptions): Promise<void> {
  // A newer program's target is unknown to this one: the device is gone all the same.
  if (Object.hasOwn(targets, record.target))
    await findTarget(record.target).remove?.(record.spec, record);
  store.remove(record.id);
}

function openError(id: number): UblkError {
  const holders = diskHolders(id);
  const who = holders.length === 0 ? "by somebody who closed it meanwhile" : holders.join(", ");
  return new UblkError(`${diskPath(id)} is in use: ${who}`, {
    exitCode: EXIT.busy,
    hint: "close or unmount it first; to stop it all the same: --force",
  });
}
