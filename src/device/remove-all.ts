// del --all: every device of ours, one after the other; one that cannot go does not keep the others.

import { EXIT, type ExitCode, UblkError } from "../errors.ts";
import { log } from "../log.ts";
import { deviceIds } from "./disk.ts";
import { findDevice } from "./find-device.ts";
import { isOurs } from "./identity.ts";
import { deleteDevice, type DeleteOptions } from "./remove.ts";

/** What became of one device, as `del --all --json` prints it. */
export interface Deletion {
  readonly id: number;
  readonly deleted: boolean;
  /** Why not; null when it is deleted. */
  readonly error: string | null;
}

/** Deletes them all; `onOutcome` hears of each. Returns the exit code of the first that failed. */
export async function deleteAll(
  options: DeleteOptions,
  onOutcome: (deletion: Deletion) => void,
): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.ok;
  const failed = (id: number, error: UblkError) => {
    const hint = error.hint === undefined ? "" : ` (${error.hint})`;
    onOutcome({ id, deleted: false, error: `${error.message}${hint}` });
    if (exitCode === EXIT.ok) exitCode = error.exitCode;
  };
  let ids = await idsToDelete(options);
  for (;;) {
    const busy = new Map<number, UblkError>();
    for (const id of ids) {
      const error = await tryDelete(id, options);
      if (error === undefined) onOutcome({ id, deleted: true, error: null });
      else if (error.exitCode === EXIT.busy) busy.set(id, error);
      // Somebody else was quicker: gone is gone.
      else if (error.exitCode !== EXIT.noDevice) failed(id, error);
    }
    // One disk may lie on another, which can go once the first has gone.
    if (busy.size < ids.length) ids = [...busy.keys()];
    else {
      for (const [id, error] of busy) failed(id, error);
      return exitCode;
    }
  }
}

async function tryDelete(id: number, options: DeleteOptions): Promise<UblkError | undefined> {
  try {
    await deleteDevice(id, options);
    return undefined;
  } catch (error) {
    if (error instanceof UblkError) return error;
    throw error;
  }
}

/** Devices with a record of ours, and records whose device is gone; with --force, every device. */
async function idsToDelete(options: DeleteOptions): Promise<number[]> {
  const { control, store, force } = options;
  const recorded = store.ids();
  const ids: number[] = [];
  for (const id of new Set([...deviceIds(), ...recorded].toSorted((a, b) => a - b))) {
    const info = await findDevice(control, id);
    const isAnothers = info !== undefined && !isOurs(store.loadIfUsable(id), info);
    // A record that cannot be read may be of this very device: del says what is wrong with it.
    if (force || !isAnothers || isDamaged(id, options)) ids.push(id);
    else log.info(`device ${id} is another tool's: left alone (--force deletes it too)`);
  }
  return ids;
}

function isDamaged(id: number, { store }: DeleteOptions): boolean {
  return store.has(id) && store.loadIfUsable(id) === undefined;
}
