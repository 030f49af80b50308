// A disk in memory: in a file under /dev/shm, so that it outlives the server that serves it.
//
//   ublk-bun add --target ./memory.ts --param path=/dev/shm/disk --param size=64MiB
import { closeSync, openSync, statSync, truncateSync } from "node:fs";

import { defineTarget } from "ublk-bun";

export default defineTarget({
  params: {
    path: { type: "path", required: true, help: "file under /dev/shm that holds the blocks" },
    size: { type: "size", default: "64MiB", help: "size of the disk" },
  },
  open({ path, size }, { isNew }) {
    // Made for a new disk only: after a crash an empty one would be zeroes under a file system.
    if (isNew) closeSync(openSync(path, "a"));
    if (isNew) truncateSync(path, size);
    else if (statSync(path).size !== size) throw new Error(`${path} has not ${size} bytes`);
    const memory = Bun.mmap(path, { shared: true });
    return {
      sizeBytes: size,
      read: (offset, into) => into.set(memory.subarray(offset, offset + into.length)),
      write: (offset, from) => memory.set(from, offset),
      writeZeroes: (offset, length) => void memory.fill(0, offset, offset + length),
    };
  },
});
