// null: accepts every write and forgets it, answers every read with whatever its buffer holds.

import { UsageError } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";
import { UBLK_IO_OP } from "../ffi/ublk.ts";
import {
  type Backing,
  defineTarget,
  type Geometry,
  type QueueContext,
  type Spec,
} from "../target.ts";
import { parseBytes, parseDiskSize, parseInteger } from "../units.ts";

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

const PAGE_BYTES = 4096;
const SEGMENTS_MAX = 0xffff;
const SEGMENT_BYTES_MAX = 1024 ** 3;

/** Limits that real hardware has. null needs none: they show what a disk's users make of them. */
const limitArgs = {
  "dma-alignment": {
    type: "string",
    description: "memory alignment that requests must have, to 4 KiB (Linux 6.14)",
    valueHint: "BYTES",
  },
  "max-segments": {
    type: "string",
    description: "pieces of memory in one request, at most (Linux 6.15)",
    valueHint: "COUNT",
  },
  "max-segment-size": {
    type: "string",
    description: "length of such a piece, at most; from 4 KiB (Linux 6.15)",
    valueHint: "SIZE",
  },
} as const;

type LimitWords = { readonly [K in keyof typeof limitArgs]?: string | undefined };

function parseLimits(words: LimitWords): Spec {
  const { "dma-alignment": alignment, "max-segments": count, "max-segment-size": size } = words;
  const limits: Record<string, number> = {};
  if (alignment !== undefined) {
    const bytes = parseBytes(alignment, "--dma-alignment");
    const isPossible = bytes > 0 && bytes <= PAGE_BYTES && Number.isInteger(Math.log2(bytes));
    if (!isPossible) throw impossible("--dma-alignment", alignment, "a power of two, to 4KiB");
    limits["dmaAlignmentBytes"] = bytes;
  }
  if (count !== undefined) {
    const bounds = { min: 1, max: SEGMENTS_MAX };
    limits["maxSegments"] = parseInteger(count, "--max-segments", bounds);
  }
  if (size !== undefined) {
    const bytes = parseBytes(size, "--max-segment-size");
    const isPossible =
      bytes >= PAGE_BYTES && bytes <= SEGMENT_BYTES_MAX && bytes % PAGE_BYTES === 0;
    if (!isPossible) throw impossible("--max-segment-size", size, "a multiple of 4 KiB, to 1GiB");
    limits["maxSegmentBytes"] = bytes;
  }
  return limits;
}

function impossible(option: string, word: string, range: string): UsageError {
  return new UsageError(`${option} ${word} is not possible`, `write ${range}`);
}

/** What is not limited is as the kernel has it for every disk. */
function limitsOf(spec: Spec): Pick<Geometry, "dmaAlignmentBytes" | "segments"> {
  const { dmaAlignmentBytes, maxSegments, maxSegmentBytes } = spec as Record<string, number>;
  const segments = {
    maxCount: maxSegments ?? 128,
    maxBytes: maxSegmentBytes ?? 65536,
    boundaryBytes: 4 * 1024 ** 3,
  };
  return {
    ...(dmaAlignmentBytes === undefined ? {} : { dmaAlignmentBytes }),
    ...(maxSegments === undefined && maxSegmentBytes === undefined ? {} : { segments }),
  };
}

export const nullTarget = defineTarget({
  name: "null",
  summary: "discards writes, reads nothing in particular; for measuring and trying out",
  data: "none",
  args: { size: sizeArg, ...limitArgs },
  parse: ({ size, ...words }): Spec & { readonly sizeBytes: number } => ({
    sizeBytes: parseDiskSize(size, NULL_BLOCK_BYTES),
    ...parseLimits(words),
  }),
  open: async (spec) => openNothing({ ...nullGeometry(spec.sizeBytes), ...limitsOf(spec) }),
  resize: async (spec, sizeBytes) => ({ ...spec, sizeBytes }),
  serve: (_spec, { queue }) => ({
    kind: "ring",
    start: (tag) => queue.complete(tag, nullResult(queue, tag)),
    finish: () => {},
  }),
});
