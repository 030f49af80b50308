// null: accepts every write and forgets it, answers every read with whatever its buffer holds.

import { ERRNO } from "../ffi/errno.ts";
import { UBLK_IO_OP } from "../ffi/ublk.ts";
import { type Backing, defineTarget, type Geometry, type QueueContext } from "../target.ts";
import { parseDiskSize } from "../units.ts";

export const NULL_BLOCK_BYTES = 512;
/** The most that 32 bits of sectors can name, in whole 4 KiB blocks. */
const DISCARD_BYTES_MAX = Math.floor(0xffffffff / 8) * 4096;

/** The shape of a disk that keeps nothing. */
export function nullGeometry(sizeBytes: number): Geometry {
  return {
    sizeBytes,
    logicalBlockBytes: NULL_BLOCK_BYTES,
    physicalBlockBytes: 4096,
    readOnly: false,
    rotational: false,
    volatileCache: false,
    fua: false,
    discard: { maxBytes: DISCARD_BYTES_MAX, granularityBytes: NULL_BLOCK_BYTES },
    writeZeroes: { maxBytes: DISCARD_BYTES_MAX },
  };
}

/** What null answers: the whole length where the request has data, 0 where it has none. */
export function nullResult(queue: QueueContext, tag: number): number {
  const op = queue.op(tag);
  if (op === UBLK_IO_OP.READ || op === UBLK_IO_OP.WRITE) return queue.lengthBytes(tag);
  if (op === UBLK_IO_OP.FLUSH || op === UBLK_IO_OP.DISCARD || op === UBLK_IO_OP.WRITE_ZEROES) {
    return 0;
  }
  return -ERRNO.EOPNOTSUPP;
}

/** The `--size` option of disks that have no backing to take it from. */
export const sizeArg = {
  type: "string",
  description: "size of the disk, with suffix (KiB, MiB, GiB, TiB)",
  valueHint: "SIZE",
  default: "250GiB",
} as const;

/** A backing that holds no file. */
export function openNothing(geometry: Geometry): Backing {
  return { geometry, fds: [], facts: {}, [Symbol.asyncDispose]: async () => {} };
}

export const nullTarget = defineTarget({
  name: "null",
  summary: "discards writes, reads nothing in particular; for measuring and trying out",
  data: "none",
  args: { size: sizeArg },
  parse: ({ size }) => ({ sizeBytes: parseDiskSize(size, NULL_BLOCK_BYTES) }),
  open: async ({ sizeBytes }) => openNothing(nullGeometry(sizeBytes)),
  serve: (_spec, { queue }) => ({
    kind: "ring",
    start: (tag) => queue.complete(tag, nullResult(queue, tag)),
    finish: () => {},
  }),
});
