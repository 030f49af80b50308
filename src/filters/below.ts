// The disk below a filter, as the filter sees it: every function is there, what it may not do is refused
// before it is done, and a write that must be durable is, whatever lies below.

import type { Disk, DiskBelow } from "ublk-bun";

import { BlockError } from "../api/index.ts";
import { errnoName } from "../ffi/errno.ts";
import type { Geometry } from "../target.ts";

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
      demandWhole(await disk.read(offset, into), into.length);
    },
    async write(offset, from, { fua = false } = {}) {
      checkChange("write", offset, from.length);
      demandWhole(await disk.write!(offset, from, { fua: fua && heedsFua }), from.length);
      if (fua && volatileCache && !heedsFua) await disk.flush!();
    },
    async flush() {
      if (volatileCache) await disk.flush!();
    },
    async discard(offset, length) {
      if (discard === undefined) throw new BlockError("EOPNOTSUPP");
      checkChange("discard", offset, length);
      await disk.discard!(offset, length);
    },
    async writeZeroes(offset, length, { mayUnmap = true } = {}) {
      if (writeZeroes === undefined) throw new BlockError("EOPNOTSUPP");
      checkChange("writeZeroes", offset, length);
      await disk.writeZeroes!(offset, length, { mayUnmap });
    },
  };
}

/** All of it or an errno, as the server asks of every disk. */
export function demandWhole(done: number | void, length: number): void {
  if (done === undefined || done === null || done === length) return;
  const name = typeof done === "number" && done < 0 ? errnoName(-done) : "";
  if (/^E[A-Z0-9]+$/.test(name)) throw new BlockError(name);
  throw new BlockError("EIO", `the disk below did ${String(done)} of ${length} bytes`);
}
