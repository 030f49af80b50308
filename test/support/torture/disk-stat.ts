// How much a disk has done: moments to kill a server at are numbers of requests, never of seconds.

import { readFileSync } from "node:fs";

const FIELDS = { reads: 0, writes: 4 } as const;

/** Reads and writes that the block layer has seen completed. */
export function completedRequests(id: number): number {
  const words = readFileSync(`/sys/block/ublkb${id}/stat`, "utf8").trim().split(/\s+/);
  return Number(words[FIELDS.reads]) + Number(words[FIELDS.writes]);
}

/** Until so many requests have been completed, looking as often as the machine can. */
export async function untilCompleted(id: number, count: number, isOver: () => boolean) {
  while (completedRequests(id) < count) {
    if (isOver()) throw new Error(`the load has ended before its ${count}th request`);
    await Bun.sleep(1);
  }
}
