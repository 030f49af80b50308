// The disk below a filter, as the filter sees it: every function is there, what it may not do is refused
// before it is done, and a write that must be durable is, whatever lies below.

import type { Disk, DiskBelow } from "ublk-bun";

import { BlockError } from "../api/index.ts";
import { type Geometry, isDone, returnedWords } from "../target.ts";

export function below(disk: Disk, geometry: Geometry): DiskBelow {
  const { sizeBytes, logicalBlockBytes, readOnly, volatileCache, fua: heedsFua } = geometry;
  const { maxIoBytes, optimalIoBytes, discard, writeZeroes } = geometry;

  const check = (what: string, offset: number, length: number) => {
    const isInside = offset >= 0 && length > 0 && offset + length <= sizeBytes;
    const isWhole = offset % logicalBlockBytes === 0 && length % logicalBlockBytes === 0;
    if (isInside && isWhole) return;
    throw new BlockError(
      "EINVAL",
      `${what} of ${length} bytes at ${offset}: the disk below has ${sizeBytes} bytes, ` +
        `in blocks of ${logicalBlockBytes}`,
    );
  };
  const checkChange = (what: string, offset: number, length: number) => {
    if (readOnly) throw new BlockError("EROFS", `${what}: the disk below is read-only`);
    check(what, offset, length);
  };

  return {
    sizeBytes,
    logicalBlockBytes,
    physicalBlockBytes: geometry.physicalBlockBytes,
    readOnly,
    rotational: geometry.rotational,
    volatileCache,
    ...(maxIoBytes === undefined ? {} : { maxIoBytes }),
    ...(optimalIoBytes === undefined ? {} : { optimalIoBytes }),
    ...(discard && { maxDiscardBytes: discard.maxBytes }),
    ...(writeZeroes && { maxWriteZeroesBytes: writeZeroes.maxBytes }),
    async read(offset, into) {
      check("read", offset, into.length);
      demand("read", await disk.read(offset, into), into.length);
    },
    async write(offset, from, { fua = false } = {}) {
      checkChange("write", offset, from.length);
      demand("write", await disk.write!(offset, from, { fua: fua && heedsFua }), from.length);
      if (fua && volatileCache && !heedsFua) demand("flush", await disk.flush!(), 0);
    },
    async flush() {
      if (volatileCache) demand("flush", await disk.flush!(), 0);
    },
    async discard(offset, length) {
      if (discard === undefined) throw new BlockError("EOPNOTSUPP");
      checkChange("discard", offset, length);
      demand("discard", await disk.discard!(offset, length), 0);
    },
    async writeZeroes(offset, length, { mayUnmap = true } = {}) {
      if (writeZeroes === undefined) throw new BlockError("EOPNOTSUPP");
      checkChange("writeZeroes", offset, length);
      demand("writeZeroes", await disk.writeZeroes!(offset, length, { mayUnmap }), 0);
    },
  };
}

/** All of it or an exception, as the server asks of every disk. */
function demand(call: string, done: unknown, dataBytes: number): void {
  if (isDone(done, dataBytes)) return;
  const all = dataBytes === 0 ? "nothing" : `nothing, or ${dataBytes}`;
  throw new BlockError(
    "EIO",
    `${call} of the disk below returned ${returnedWords(done)}: it must return ${all}`,
  );
}
