// What an opened file or block device allows: size, blocks, alignment, discarding, zeroing.

import { fstatSync } from "../builtin.ts";
import { KernelError } from "../errors.ts";
import {
  BLKGETSIZE64,
  BLKPBSZGET,
  BLKROGET,
  BLKROTATIONAL,
  BLKSSZGET,
  FALLOC_FL,
  STATX,
  statx,
} from "../ffi/block.ts";
import { ERRNO, errnoText } from "../ffi/errno.ts";
import { fallocate, ioctl, pread, statxOf } from "../ffi/libc.ts";
import { mapMemory } from "../ffi/memory.ts";
import type { Geometry } from "../target.ts";
import { queueNumber } from "./backing-device.ts";

/** What a disk on this backing must keep to. */
export interface BackingLimits {
  readonly sizeBytes: number;
  /** Requests are multiples of it; 512 to 4096. */
  readonly logicalBlockBytes: number;
  readonly physicalBlockBytes: number;
  /** Undefined where any memory will do. */
  readonly dmaAlignmentBytes: number | undefined;
  readonly rotational: boolean;
  /** A device that is switched to read-only. */
  readonly isLocked: boolean;
  /** Absent where it does not work. */
  readonly discard: Geometry["discard"];
  readonly writeZeroes: Geometry["writeZeroes"];
}

const SECTOR_BYTES = 512;
const PAGE_BYTES = 4096;
/** One request covers no more, so that it ends in good time. */
const RANGE_BYTES_MAX = 1024 ** 3;

interface Alignment {
  readonly memoryBytes: number;
  readonly blockBytes: number;
}

/** True when direct I/O really works: some file systems take O_DIRECT and then refuse each read. */
export function hasDirectIo(fd: number): boolean {
  return directAlignment(fd) !== undefined;
}

/** Limits of an open regular file. */
export function fileLimits(
  fd: number,
  { isDirect, readOnly }: { readonly isDirect: boolean; readonly readOnly: boolean },
): BackingLimits {
  const stats = fstatSync(fd);
  const alignment = isDirect ? directAlignment(fd) : undefined;
  const logicalBlockBytes = alignment?.blockBytes ?? SECTOR_BYTES;
  const fileBlockBytes = isPowerOfTwo(stats.blksize) ? stats.blksize : PAGE_BYTES;
  const granularityBytes = Math.max(logicalBlockBytes, Math.min(fileBlockBytes, 64 * 1024));
  const canPunch = !readOnly && punches(fd, stats.size);
  return {
    sizeBytes: stats.size,
    logicalBlockBytes,
    physicalBlockBytes: Math.max(logicalBlockBytes, PAGE_BYTES),
    dmaAlignmentBytes: alignment?.memoryBytes,
    rotational: false,
    isLocked: false,
    discard: canPunch ? { maxBytes: RANGE_BYTES_MAX, granularityBytes } : undefined,
    writeZeroes: canPunch ? { maxBytes: RANGE_BYTES_MAX } : undefined,
  };
}

/** Limits of an open block device; `numbers` is its "major:minor". */
export function diskLimits(fd: number, numbers: string, isDirect: boolean): BackingLimits {
  const logicalBlockBytes = ask(fd, BLKSSZGET, "BLKSSZGET");
  const physicalBlockBytes = Math.max(logicalBlockBytes, ask(fd, BLKPBSZGET, "BLKPBSZGET"));
  const queue = (file: string) => queueNumber(numbers, file);
  const discardBytes = Math.min(queue("discard_max_bytes") ?? 0, RANGE_BYTES_MAX);
  const zeroesBytes = Math.min(queue("write_zeroes_max_bytes") ?? 0, RANGE_BYTES_MAX);
  const granularityBytes = Math.max(queue("discard_granularity") ?? 0, logicalBlockBytes);
  return {
    sizeBytes: ask(fd, BLKGETSIZE64, "BLKGETSIZE64"),
    logicalBlockBytes,
    physicalBlockBytes: isPowerOfTwo(physicalBlockBytes) ? physicalBlockBytes : logicalBlockBytes,
    // Kernels that do not tell want the alignment of a sector.
    dmaAlignmentBytes: isDirect ? (queue("dma_alignment") ?? SECTOR_BYTES - 1) + 1 : undefined,
    isLocked: ask(fd, BLKROGET, "BLKROGET") !== 0,
    rotational: (ask(fd, BLKROTATIONAL, "BLKROTATIONAL") & 0xffff) !== 0,
    discard: discardBytes > 0 ? { maxBytes: discardBytes, granularityBytes } : undefined,
    writeZeroes: zeroesBytes > 0 ? { maxBytes: zeroesBytes } : undefined,
  };
}

const sizeWords = new Uint32Array(new ArrayBuffer(8));

/** A block device that was removed: whoever has it open is left with one of no size. */
export function isGone(fd: number): boolean {
  return ioctl(fd, BLKGETSIZE64, sizeWords) < 0 || (sizeWords[0] === 0 && sizeWords[1] === 0);
}

/** The answer of an ioctl that fills in one number; what is shorter than 64 bits leaves zeroes. */
function ask(fd: number, request: number, name: string): number {
  const answer = new BigUint64Array(new ArrayBuffer(8));
  const result = ioctl(fd, request, answer);
  if (result < 0) {
    throw new KernelError(`The device does not answer ${name}: ${errnoText(-result)}`, -result, {
      hint: "name another block device, or a file",
    });
  }
  return Number(answer[0]);
}

/** What direct I/O on an open file or device asks of memory and offsets; undefined: it does not work. */
function directAlignment(fd: number): Alignment | undefined {
  return candidates(fd).find((alignment) => directReads(fd, alignment));
}

function candidates(fd: number): Alignment[] {
  const buffer = new Uint8Array(new ArrayBuffer(statx.sizeBytes));
  const result = statxOf(fd, STATX.BASIC_STATS | STATX.DIOALIGN, buffer);
  const told = statx.read(new DataView(buffer.buffer));
  const usual = [SECTOR_BYTES, PAGE_BYTES].map((bytes) => ({
    memoryBytes: bytes,
    blockBytes: bytes,
  }));
  if (result < 0 || (told.stx_mask & STATX.DIOALIGN) === 0) return usual;
  const blockBytes = Math.max(told.stx_dio_offset_align, SECTOR_BYTES);
  const memoryBytes = told.stx_dio_mem_align;
  const fits = [blockBytes, memoryBytes].every((n) => isPowerOfTwo(n) && n <= PAGE_BYTES);
  return told.stx_dio_offset_align > 0 && fits ? [{ memoryBytes, blockBytes }] : [];
}

/** Reads one block as a request would, into memory aligned no better than it has to be. */
function directReads(fd: number, { memoryBytes, blockBytes }: Alignment): boolean {
  using memory = mapMemory(4 * PAGE_BYTES);
  const result = pread(fd, memory.address + memoryBytes, blockBytes, 0);
  // Any other error is the disk's own, and for whoever reads it to hear of.
  return result !== -ERRNO.EINVAL && result !== -ERRNO.EOPNOTSUPP;
}

/** Punches where there is nothing, beyond the end of the file: what it holds stays as it is. */
function punches(fd: number, sizeBytes: number): boolean {
  const beyond = Math.ceil(sizeBytes / PAGE_BYTES) * PAGE_BYTES;
  return fallocate(fd, FALLOC_FL.PUNCH_HOLE | FALLOC_FL.KEEP_SIZE, beyond, PAGE_BYTES) === 0;
}

function isPowerOfTwo(n: number): boolean {
  return n > 0 && Number.isInteger(Math.log2(n));
}
