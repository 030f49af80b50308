// Where a disk's data lies, so that no two disks, and no two members of one, lie on the same place.

import { statSync } from "../builtin.ts";
import { deviceNumbers, diskOfPartition } from "./backing-device.ts";

export interface Place {
  readonly path: string;
  /** The same for every path to the same file, and for every node of the same block device. */
  readonly key: string;
  /** Of a partition: its disk's key. */
  readonly diskKey?: string;
}

/** Undefined where nothing is there, or nothing that may be looked at. */
export function placeOf(path: string): Place | undefined {
  try {
    const stat = statSync(path, { bigint: true });
    if (!stat.isBlockDevice()) return { path, key: `file ${stat.dev}:${stat.ino}` };
    const numbers = deviceNumbers({ rdev: Number(stat.rdev) });
    const disk = diskOfPartition(numbers);
    return { path, key: `block ${numbers}`, ...(disk && { diskKey: `block ${disk}` }) };
  } catch {
    return undefined;
  }
}

/** True for a place and itself, and for a partition and its disk. */
export const overlap = (one: Place, other: Place) =>
  one.key === other.key || one.key === other.diskKey || one.diskKey === other.key;
