// The first thing a recovery does: finds the record to serve a device by, and refuses at once what no waiting
// can mend. Nothing of the device is touched.

import type { DevInfo } from "../control/commands/dev-info.ts";
import { getDevInfo } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { EXIT, UblkError, UsageError } from "../errors.ts";
import { checkCode, serverEnv } from "./code.ts";
import { diskPath } from "./disk.ts";
import { assertOurs } from "./identity.ts";
import { checkFiles } from "./in-use.ts";
import { serverPid } from "./inspect.ts";
import { isUnclaimed, type Job, type RecoverJob } from "./job.ts";
import { isModeGranted, modeOf } from "./modes.ts";
import { peek, processName } from "./processes.ts";
import { recoveryOf } from "./recovery.ts";
import type { DeviceLock, DeviceRecord, Store } from "./store.ts";

export interface RecoverableOptions {
  readonly control: Control;
  readonly store: Store;
  /** Tells the person at the prompt what they might not expect. */
  readonly note: (text: string) => void;
}

/** What a recovery begins with. */
export interface Claimed {
  readonly record: DeviceRecord;
  /** The record is a new one: it is saved before anything is served by it. */
  readonly isChanged: boolean;
  readonly lock: DeviceLock;
}

const silent = () => {};

/** The record to serve the job's device by, and the device's lock. Throws why it is not to be recovered. */
export async function claimRecovery(
  job: RecoverJob,
  options: RecoverableOptions,
): Promise<Claimed> {
  const { store, control } = options;
  const { id, wish } = job;
  // In the name of the command that a person has typed, as long as it is there.
  const lock = () =>
    store.lock(id, "recover", process.ppid === job.launcherPid ? process.ppid : process.pid);
  try {
    await recoverable(job, { ...options, note: silent });
  } catch (error) {
    // An `add` may be about to start it: it is not dead.
    const isLocked = peek(() => {
      store.assertSafe();
      return store.isLocked(id);
    });
    if (isLocked && !(await isLive(id, control))) lock()[Symbol.dispose]();
    throw error;
  }
  store.prepare();
  const taken = lock();
  try {
    // Another recover may just have ended.
    const found = await recoverable(job, options);
    if (job.record !== undefined) assertOnlyCodeChanged(job.record, found);
    const record = job.record ?? found;
    const isChanged = wish?.retarget !== undefined || record !== found;
    if (isChanged) {
      const { force, timeoutMs } = job;
      await checkFiles(record, { ...options, force, timeoutMs, note: silent });
    }
    const strange = Object.keys(job.once).find((key) => record.spec[key] === undefined);
    if (strange !== undefined) {
      throw new UsageError(`Device ${id} is a ${record.target}: it has no "${strange}"`);
    }
    return { record, isChanged, lock: taken };
  } catch (error) {
    taken[Symbol.dispose]();
    throw error;
  }
}

const isLive = async (id: number, control: Control) =>
  (await control.run(getDevInfo, id, undefined)).state === "LIVE";

/** `record` was made of what the launcher has read, a while ago. */
function assertOnlyCodeChanged(record: DeviceRecord, found: DeviceRecord): void {
  const { spec, filters } = found;
  if (Bun.deepEquals({ ...record, spec, filters }, { ...found, filters })) return;
  throw new UblkError(`The record of device ${found.id} has changed while its code was loaded`, {
    exitCode: EXIT.busy,
    hint: "nothing was changed; recover it again",
  });
}

/** The record to serve the device by, or why it is not to be served (KernelError, exit 6, UsageError). */
export async function recoverable(
  { id, wish, force }: Pick<RecoverJob, "id" | "force" | "wish">,
  { control, store, note }: RecoverableOptions,
): Promise<DeviceRecord> {
  const { retarget, acceptChanges = false } = wish ?? {};
  const info = await control.run(getDevInfo, id, undefined);
  const pid = serverPid(info);
  if (info.state === "LIVE" && pid > 0) {
    refuse(
      `Device ${id} is live: pid ${pid} (${processName(pid)}) serves ${diskPath(id)}`,
      "there is nothing to recover",
    );
  }
  const record = retarget
    ? (await import("./retarget.ts")).retargeted(info, retarget, { store, force, note })
    : ownRecord(info, store);
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
  checkCode(record, acceptChanges);
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

function refuse(message: string, hint: string): never {
  throw new UblkError(message, { exitCode: EXIT.notRecoverable, hint });
}

/** The library to load: as given, or else the one that the device was made with. */
export function liburingOf(job: Job, store: Store): string {
  if (job.liburing !== "" || !isUnclaimed(job)) return job.liburing;
  return store.loadIfUsable(job.id)?.liburing ?? "";
}
