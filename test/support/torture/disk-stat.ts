// How much a disk has done: moments to kill a server at are amounts of data, never of seconds.

import { readFileSync } from "node:fs";

import { inFlight } from "../crash.ts";

const FIELDS = { readSectors: 2, writtenSectors: 6 } as const;
const SECTOR_BYTES = 512;
/** A request was lost: nothing that these tests do takes as long. */
const STILL_MS_MAX = 60_000;

/** What the block layer has seen read and written. */
export function completedBytes(id: number): number {
  const words = readFileSync(`/sys/block/ublkb${id}/stat`, "utf8").trim().split(/\s+/);
  return (Number(words[FIELDS.readSectors]) + Number(words[FIELDS.writtenSectors])) * SECTOR_BYTES;
}

/** Until so much has been read and written. */
export function untilCompleted(id: number, bytes: number, isOver: () => boolean) {
  return untilDone(id, (done) => {
    if (done >= bytes) return true;
    if (isOver()) throw new Error(`the load has ended before its ${bytes}th byte`);
    return false;
  });
}

/** Until `isDone`, looking as often as the machine can; throws when nothing completes any more. */
export async function untilDone(id: number, isDone: (completed: number) => boolean) {
  let [last, since] = [-1, 0];
  for (;;) {
    const now = completedBytes(id);
    if (isDone(now)) return;
    if (now !== last) [last, since] = [now, performance.now()];
    if (performance.now() - since > STILL_MS_MAX) {
      throw new Error(
        `device ${id}: nothing has completed for a minute, ${inFlight(id)} in flight`,
      );
    }
    await Bun.sleep(1);
  }
}
