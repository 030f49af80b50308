// How much a disk has done: moments to kill a server at are amounts of data, never of seconds.

import { readFileSync } from "node:fs";

const FIELDS = { readSectors: 2, writtenSectors: 6 } as const;
const SECTOR_BYTES = 512;

/** What the block layer has seen read and written. */
export function completedBytes(id: number): number {
  const words = readFileSync(`/sys/block/ublkb${id}/stat`, "utf8").trim().split(/\s+/);
  return (Number(words[FIELDS.readSectors]) + Number(words[FIELDS.writtenSectors])) * SECTOR_BYTES;
}

/** Until so much has been read and written, looking as often as the machine can. */
export async function untilCompleted(id: number, bytes: number, isOver: () => boolean) {
  while (completedBytes(id) < bytes) {
    if (isOver()) throw new Error(`the load has ended before its ${bytes}th byte`);
    await Bun.sleep(1);
  }
}
