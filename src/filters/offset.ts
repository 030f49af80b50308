// offset: the disk begins so far into the one below.

import { UblkError, UsageError } from "../errors.ts";
import { defineFilter } from "../filter.ts";
import { parseBytes } from "../units.ts";

const BLOCK_BYTES_MIN = 512;
/** Linux reads a disk by the page: a smaller one is good for nothing. */
const SIZE_BYTES_MIN = 4096;

export const offset = defineFilter({
  name: "offset",
  usage: "offset=BYTES",
  summary: "the disk begins so far into the one below; whole blocks",
  parse: (word) => {
    const offsetBytes = parseBytes(word, "--filter offset");
    checkWhole(offsetBytes, BLOCK_BYTES_MIN);
    return { offsetBytes };
  },
  open: (below, { offsetBytes }) => {
    checkWhole(offsetBytes, below.logicalBlockBytes);
    const sizeBytes = below.sizeBytes - offsetBytes;
    if (sizeBytes < SIZE_BYTES_MIN) {
      throw new UblkError(
        `--filter offset=${offsetBytes} leaves no disk: the one below has ${below.sizeBytes} bytes`,
        { hint: "choose a smaller one" },
      );
    }
    return {
      sizeBytes,
      read: (at, into) => below.read(at + offsetBytes, into),
      write: (at, from, options) => below.write(at + offsetBytes, from, options),
      discard: (at, length) => below.discard(at + offsetBytes, length),
      writeZeroes: (at, length, options) => below.writeZeroes(at + offsetBytes, length, options),
    };
  },
});

function checkWhole(offsetBytes: number, blockBytes: number): void {
  if (offsetBytes % blockBytes === 0) return;
  throw new UsageError(
    `--filter offset=${offsetBytes} is not a whole number of ${blockBytes}-byte blocks`,
    `the nearest below is ${offsetBytes - (offsetBytes % blockBytes)}`,
  );
}
