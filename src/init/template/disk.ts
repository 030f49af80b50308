// A disk in a file. What each function must do: ublk-bun.d.ts. Is it right: ./test.sh

import { open } from "node:fs/promises";

import { defineTarget } from "ublk-bun";

export default defineTarget({
  summary: "blocks in a file",
  params: {
    path: {
      type: "path",
      required: true,
      help: "file that holds the blocks; made if it is not there",
    },
    size: { type: "size", default: "64MiB", help: "size of the disk" },
  },
  async open({ path, size }, { isNew }) {
    // Made for a new disk only: after a crash an empty one would be zeroes under a file system.
    if (isNew) await open(path, "a").then((made) => made.close());
    const file = await open(path, "r+");
    return {
      sizeBytes: size,
      async read(offset, into) {
        for (let done = 0; done < into.length;) {
          const { bytesRead } = await file.read(into, done, into.length - done, offset + done);
          // Beyond the end of the file nothing was written yet.
          if (bytesRead === 0) return void into.fill(0, done);
          done += bytesRead;
        }
      },
      async write(offset, from) {
        for (let done = 0; done < from.length;) {
          const { bytesWritten } = await file.write(from, done, from.length - done, offset + done);
          done += bytesWritten;
        }
      },
      flush: () => file.datasync(),
      close: () => file.close(),
    };
  },
});
