// A device's nodes and what sysfs tells of its disk, without opening either.

import { readdirSync, readFileSync, statSync } from "../builtin.ts";
import { peek } from "./processes.ts";

export const charPath = (id: number) => `/dev/ublkc${id}`;
export const diskName = (id: number) => `ublkb${id}`;
export const diskPath = (id: number) => `/dev/${diskName(id)}`;
const sysfs = (id: number) => `/sys/block/${diskName(id)}`;

const PAGE_BYTES = 4096;

const readNumber = (path: string): number | undefined => {
  const text = peek(() => readFileSync(path, "utf8"));
  return text === undefined ? undefined : Number(text.trim());
};

/** Ids of every ublk device of this host, whoever made it. */
export function deviceIds(): number[] {
  return (peek(() => readdirSync("/sys/class/ublk-char")) ?? [])
    .map((name) => Number(name.replace("ublkc", "")))
    .filter(Number.isInteger)
    .toSorted((a, b) => a - b);
}

/** Size and block size of the disk, or undefined while there is none. */
export function diskShape(
  id: number,
): { sizeBytes: number; logicalBlockBytes: number } | undefined {
  const sectors = readNumber(`${sysfs(id)}/size`);
  const logicalBlockBytes = readNumber(`${sysfs(id)}/queue/logical_block_size`);
  if (sectors === undefined || logicalBlockBytes === undefined) return undefined;
  return { sizeBytes: sectors * 512, logicalBlockBytes };
}

/** Bytes of a block, for direct I/O; a page where sysfs cannot tell. */
export function blockBytes(id: number): number {
  return diskShape(id)?.logicalBlockBytes ?? PAGE_BYTES;
}

/** Requests that the block layer has given to the device and not got back. */
export function inFlight(id: number): number {
  const text = peek(() => readFileSync(`${sysfs(id)}/inflight`, "utf8")) ?? "";
  return text
    .trim()
    .split(/\s+/)
    .reduce((sum, count) => sum + Number(count), 0);
}

/** Kernel device number, as stat(2) gives it in st_rdev; undefined while there is no node. */
export function deviceNumber(path: string): number | undefined {
  return peek(() => statSync(path).rdev);
}

/** The disk and its partitions: names ("ublkb0p1"), "major:minor". */
export function diskAndPartitions(id: number): { name: string; numbers: string }[] {
  const disk = `ublkb${id}`;
  const parts = (peek(() => readdirSync(sysfs(id))) ?? []).filter((name) => name.startsWith(disk));
  return [disk, ...parts].flatMap((name) => {
    const folder = name === disk ? sysfs(id) : `${sysfs(id)}/${name}`;
    const numbers = peek(() => readFileSync(`${folder}/dev`, "utf8").trim());
    return numbers === undefined ? [] : [{ name, numbers }];
  });
}
