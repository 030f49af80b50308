// Which block device a node is, what sysfs says of it, and who uses it.

import type { Stats } from "node:fs";

import { readdirSync, readFileSync } from "../builtin.ts";

/** "major:minor" of a block device's node. Source: makedev(3). */
export function deviceNumbers({ rdev }: Pick<Stats, "rdev">): string {
  const major = Math.floor(rdev / 2 ** 8) % 2 ** 12;
  const minor = (rdev % 2 ** 8) + (Math.floor(rdev / 2 ** 20) % 2 ** 12) * 2 ** 8;
  return `${major}:${minor}`;
}

/** The kernel's name of it, such as "ublkb0" or "nvme0n1p2"; "" where there is none. */
export function deviceName(numbers: string): string {
  const text = readText(`/sys/dev/block/${numbers}/uevent`);
  return /^DEVNAME=(.+)$/m.exec(text)?.[1] ?? "";
}

/** "major:minor" of the disk that a partition lies on; undefined: it is no partition. */
export function diskOfPartition(numbers: string): string | undefined {
  const folder = `/sys/dev/block/${numbers}`;
  if (readText(`${folder}/partition`) === "") return undefined;
  return readText(`${folder}/../dev`).trim() || undefined;
}

/** A number from its request queue's folder. Undefined: not there. */
export function queueNumber(numbers: string, file: string): number | undefined {
  const text = queueText(numbers, file);
  return text === "" ? undefined : Number(text);
}

/** It takes writes only where the last one in a zone has ended. Source: Documentation/ABI/stable/sysfs-block. */
export const isHostManaged = (numbers: string) => queueText(numbers, "zoned") === "host-managed";

/** A word from its request queue's folder; a partition has its disk's. "": not there. */
function queueText(numbers: string, file: string): string {
  // Not normalized: the folder is a link, and ".." counts from where it leads.
  const folder = `/sys/dev/block/${numbers}`;
  return (readText(`${folder}/queue/${file}`) || readText(`${folder}/../queue/${file}`)).trim();
}

/** Who uses it, in words, as far as can be seen. Source: proc_pid_mountinfo(5), proc_swaps(5). */
export function deviceHolders(numbers: string): string[] {
  const name = deviceName(numbers);
  const folder = `/sys/dev/block/${numbers}`;
  const mounts = readText("/proc/self/mountinfo")
    .split("\n")
    .map((line) => line.split(" "))
    .filter((fields) => fields[2] === numbers || fields.includes(`/dev/${name}`))
    .map((fields) => `mounted on ${unescapeOctal(fields[4]!)}`);
  const swaps = readText("/proc/swaps")
    .split("\n")
    .filter((line) => line.startsWith(`/dev/${name} `));
  return [
    ...new Set(mounts),
    ...list(`${folder}/holders`).map((holder) => `used by /dev/${holder}`),
    ...swaps.map(() => "used as swap"),
  ];
}

/** Blanks and the like stand as three octal digits. */
const unescapeOctal = (text: string) =>
  text.replaceAll(/\\(\d{3})/g, (_all, octal) => String.fromCharCode(parseInt(octal, 8)));

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
