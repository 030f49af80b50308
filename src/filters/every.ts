// A filter that lets every request through, after something else.

import type { DiskBelow, FilterDisk } from "ublk-bun";

export type Call = "read" | "write" | "flush" | "discard" | "writeZeroes";

/** Waits for `before` and passes the request below. `length` is 0 for a flush. */
export function every(
  disk: DiskBelow,
  before: (call: Call, length: number) => Promise<void> | void,
): FilterDisk {
  return {
    async read(offset, into) {
      await before("read", into.length);
      await disk.read(offset, into);
    },
    async write(offset, from, options) {
      await before("write", from.length);
      await disk.write(offset, from, options);
    },
    // Of a disk without a cache nobody must believe that it has one.
    ...(disk.volatileCache && {
      async flush() {
        await before("flush", 0);
        await disk.flush();
      },
    }),
    async discard(offset, length) {
      await before("discard", length);
      await disk.discard(offset, length);
    },
    async writeZeroes(offset, length, options) {
      await before("writeZeroes", length);
      await disk.writeZeroes(offset, length, options);
    },
  };
}
