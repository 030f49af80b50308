// cow: writes go to a file of their own, the disk below stays as it is.

import { resolve } from "../builtin.ts";
import { UsageError } from "../errors.ts";
import { defineFilter } from "../filter.ts";
import { openOverlayFile } from "./overlay-file.ts";
import { Overlay } from "./overlay.ts";

/** One request frees or zeroes no more: giving space back takes the thread's time. */
const RANGE_BYTES_MAX = 16 * 1024 ** 2;

export const cow = defineFilter({
  name: "cow",
  usage: "cow=FILE",
  summary:
    "writes go to a sparse overlay file, made if it is not there; the disk below is only read",
  parse: (word) => {
    if (word === "") throw new UsageError("--filter cow: which file?", "such as cow=/srv/overlay");
    return { file: resolve(word) };
  },
  files: ({ file }) => [file],
  open: async (below, { file }, { isNew }) => {
    const shape = { sizeBytes: below.sizeBytes, blockBytes: below.logicalBlockBytes };
    const overlay = new Overlay(await openOverlayFile(file, { ...shape, isNew }), shape);
    return {
      readOnly: false,
      maxDiscardBytes: RANGE_BYTES_MAX,
      maxWriteZeroesBytes: RANGE_BYTES_MAX,
      read: (offset, into) => overlay.read(offset, into, below.read),
      async write(offset, from, { fua }) {
        await overlay.write(offset, from);
        if (fua) await overlay.flush();
      },
      flush: () => overlay.flush(),
      discard: (offset, length) => overlay.zero(offset, length, { mayUnmap: true }),
      writeZeroes: (offset, length, options) => overlay.zero(offset, length, options),
      close: () => overlay.close(),
    };
  },
});
