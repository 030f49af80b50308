// Which device uses which file: two disks over one file would destroy each other's data.

import { getDevInfo } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { EXIT, UblkError } from "../errors.ts";
import { type Made, targetOf } from "../filters/stack.ts";
import { overlap, type Place, placeOf } from "../targets/place.ts";
import { diskPath } from "./disk.ts";
import { isOurs } from "./identity.ts";
import { peek } from "./processes.ts";
import type { DeviceLock, DeviceRecord, Store } from "./store.ts";

/** A device as its record has it, or will. */
export type Claimant = Pick<DeviceRecord, "identity" | "target" | "spec" | "filters">;

export interface ClaimOptions {
  readonly control: Control;
  readonly store: Store;
  readonly timeoutMs: number;
  /** Go ahead although another device uses the same file; `note` warns. */
  readonly force: boolean;
  readonly note: (text: string) => void;
}

/** One use of one file by two devices. */
interface Conflict {
  readonly path: string;
  readonly other: DeviceRecord;
}

/**
 * Claims the files of a device to be: after it nobody else can, until the lock that it returns is
 * disposed. By then the record must be saved, which is the claim from there on. undefined: the target
 * uses no files. Throws (exit 5) when another device has one of them.
 */
export async function claimFiles(
  claimant: Claimant,
  options: ClaimOptions,
): Promise<DeviceLock | undefined> {
  if (filesOf(claimant).length === 0) return undefined;
  const lock = await options.store.lockFiles(options.timeoutMs);
  try {
    await checkFiles(claimant, options);
    return lock;
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

/** The same look without the claim, before anything is done that would be in vain. */
export async function checkFiles(claimant: Claimant, options: ClaimOptions): Promise<void> {
  for (const { path, other } of await conflicts(claimant, options)) {
    const what = `"${path}" is in use by device ${other.id} (${diskPath(other.id)}, ${other.target})`;
    if (!options.force) {
      throw new UblkError(what, {
        exitCode: EXIT.busy,
        hint:
          `two disks over one file destroy each other's data; ` +
          `first: ublk-bun del ${other.id}; to do it all the same: --force`,
      });
    }
    options.note(`warning: ${what}: what one writes, the other destroys`);
  }
}

async function conflicts(claimant: Claimant, options: ClaimOptions): Promise<Conflict[]> {
  const wanted = placesOf(claimant);
  const found: Conflict[] = [];
  if (wanted.length === 0) return found;
  for (const other of await existing(claimant.identity, options)) {
    for (const theirs of placesOf(other)) {
      const ours = wanted.find((place) => overlap(place, theirs));
      if (ours !== undefined) found.push({ path: ours.path, other });
    }
  }
  return found;
}

/** The records of every other device of this boot that the kernel still has, stopped ones included. */
async function existing(
  identity: string,
  { control, store }: ClaimOptions,
): Promise<DeviceRecord[]> {
  const records: DeviceRecord[] = [];
  for (const id of store.ids()) {
    const record = store.loadIfUsable(id);
    if (record === undefined || record.identity === identity) continue;
    try {
      if (isOurs(record, await control.run(getDevInfo, id, undefined))) records.push(record);
    } catch (error) {
      if (!(error instanceof UblkError) || error.exitCode !== EXIT.noDevice) throw error;
    }
  }
  return records;
}

/** Of a target that this program does not know, another version's, nothing can be told. */
function filesOf(made: Made): readonly string[] {
  return peek(() => targetOf(made).files?.(made.spec)) ?? [];
}

function placesOf(made: Made): Place[] {
  return filesOf(made).flatMap((path) => placeOf(path) ?? []);
}
