// Opens a regular file or a block device for a disk to lie on, or says why it cannot be one.

import type { Stats } from "node:fs";

import { basename, statSync } from "../builtin.ts";
import { EXIT, KernelError, UblkError } from "../errors.ts";
import { ERRNO, errnoText } from "../ffi/errno.ts";
import { close, O, open } from "../ffi/libc.ts";
import type { OpenContext } from "../target.ts";
import { formatBytes } from "../units.ts";
import { deviceHolders, deviceName, deviceNumbers, isHostManaged } from "./backing-device.ts";
import { type BackingLimits, diskLimits, fileLimits, hasDirectIo } from "./backing-limits.ts";

/** An opened file or block device, and what it can do. Disposed by whoever opened it. */
export interface BackingFile extends BackingLimits, Disposable {
  readonly path: string;
  /** O_CLOEXEC, and O_DIRECT where `isDirect`. */
  readonly fd: number;
  readonly isDevice: boolean;
  readonly isDirect: boolean;
}

export interface BackingOptions {
  readonly readOnly: boolean;
  /** Through the page cache on purpose. */
  readonly bufferedIo: boolean;
  readonly context: OpenContext;
}

/** Linux reads a disk by the page: a smaller one is good for nothing. */
const SIZE_BYTES_MIN = 4096;
const BLOCK_BYTES_MAX = 4096;

/**
 * Opens `path` with O_DIRECT, or through the page cache where that is wished or the file system leaves
 * no choice, which is noted. Creates and changes nothing.
 * @throws UblkError that says what is wrong with it and what to do.
 */
export function openBacking(path: string, options: BackingOptions): BackingFile {
  const { readOnly, context } = options;
  const stats = look(path, context);
  const isDevice = stats.isBlockDevice();
  refuseOther(path, stats);
  if (isDevice) {
    refuseOwn(path, stats, context);
    refuseZoned(path, stats);
  } else refuseUnwritable(path, stats, readOnly);
  if (isDevice && context.isNew && !context.isForced) refuseClaimed(path, stats);
  const { fd, isDirect } = openBest(path, options);
  try {
    const limits = isDevice
      ? diskLimits(fd, deviceNumbers(stats), isDirect)
      : fileLimits(fd, { isDirect, readOnly });
    if (!readOnly && limits.isLocked) throw readOnlyDevice(path);
    refuseSmall(path, limits.sizeBytes);
    refuseLargeBlocks(path, limits.logicalBlockBytes);
    return { ...limits, path, fd, isDevice, isDirect, [Symbol.dispose]: () => void close(fd) };
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** How large a backing is now; nothing of it is changed. Throws as `openBacking` does. */
export function backingSizeBytes(path: string): number {
  const stats = look(path, undefined);
  refuseOther(path, stats);
  if (!stats.isBlockDevice()) return stats.size;
  const fd = openOrThrow(path, O.RDONLY | O.CLOEXEC, undefined);
  try {
    return diskLimits(fd, deviceNumbers(stats), false).sizeBytes;
  } finally {
    close(fd);
  }
}

function look(path: string, context: OpenContext | undefined): Stats {
  try {
    return statSync(path);
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    throw cannotOpen(path, Math.abs(errno ?? ERRNO.EIO), context);
  }
}

function refuseOther(path: string, stats: Stats): void {
  if (stats.isFile() || stats.isBlockDevice()) return;
  const kind = stats.isDirectory()
    ? "a folder"
    : stats.isFIFO()
      ? "a named pipe"
      : stats.isSocket()
        ? "a socket"
        : "a character device";
  throw new UblkError(`${path} is ${kind}`, { hint: "name a regular file or a block device" });
}

/** The disk's own requests would wait for themselves. */
function refuseOwn(path: string, stats: Stats, { deviceId }: OpenContext): void {
  if (deviceId < 0 || deviceName(deviceNumbers(stats)) !== `ublkb${deviceId}`) return;
  throw new UblkError(`${path} is the disk of device ${deviceId} itself`, {
    hint: "name what the disk is to lie on",
  });
}

/** A disk is written anywhere; so are its members. */
function refuseZoned(path: string, stats: Stats): void {
  if (!isHostManaged(deviceNumbers(stats))) return;
  throw new UblkError(
    `${path} is a host-managed zoned device: its zones are written in order only`,
    {
      hint: "name a device that can be written anywhere, such as a dm-zoned over this one",
    },
  );
}

/** Root may write what nobody has the right to write: whoever took the right away did not mean that. */
function refuseUnwritable(path: string, stats: Stats, readOnly: boolean): void {
  if (readOnly || (stats.mode & 0o222) !== 0) return;
  throw new UblkError(`${path} is read-only: nobody has the right to write it`, {
    hint: `add --read-only, or run: chmod u+w ${path}`,
  });
}

/** Mounted, in an array, or opened by somebody who wants to be alone with it. */
function refuseClaimed(path: string, stats: Stats): void {
  const fd = open(path, O.RDONLY | O.EXCL | O.CLOEXEC);
  if (fd >= 0) return void close(fd);
  if (fd !== -ERRNO.EBUSY) return;
  const holders = deviceHolders(deviceNumbers(stats));
  const who = holders.length > 0 ? holders.join(", ") : "by the kernel or a process";
  throw new KernelError(`${path} is in use: ${who}`, ERRNO.EBUSY, {
    exitCode: EXIT.busy,
    hint: "two users of a disk destroy what is on it; to do it all the same: --force",
  });
}

/** The kernel lets it be opened for writing, and then refuses every write. */
function readOnlyDevice(path: string): UblkError {
  return new UblkError(`${path} is a read-only device`, {
    hint: `add --read-only, or run: blockdev --setrw ${path}`,
  });
}

function refuseSmall(path: string, sizeBytes: number): void {
  if (sizeBytes >= SIZE_BYTES_MIN) return;
  const what = sizeBytes === 0 ? "is empty" : `is too small for a disk: ${sizeBytes} bytes`;
  throw new UblkError(`${path} ${what}`, {
    hint: `a disk has at least ${SIZE_BYTES_MIN} bytes; for 1 GiB run: truncate -s 1G ${path}`,
  });
}

/** The driver makes no disk whose blocks are larger than a page. */
function refuseLargeBlocks(path: string, blockBytes: number): void {
  if (blockBytes <= BLOCK_BYTES_MAX) return;
  throw new UblkError(`${path} has blocks of ${blockBytes} bytes`, {
    hint: `a ublk disk has blocks of at most ${BLOCK_BYTES_MAX} bytes`,
  });
}

function openBest(path: string, { readOnly, bufferedIo, context }: BackingOptions) {
  const flags = O.CLOEXEC | (readOnly ? O.RDONLY : O.RDWR);
  if (bufferedIo) return { fd: openOrThrow(path, flags, context), isDirect: false };
  const direct = open(path, flags | O.DIRECT);
  if (direct >= 0 && hasDirectIo(direct)) return { fd: direct, isDirect: true };
  if (direct >= 0) close(direct);
  const fd = openOrThrow(path, flags, context);
  context.note(`${path}: no O_DIRECT there; the disk's data goes through the page cache`);
  return { fd, isDirect: false };
}

function openOrThrow(path: string, flags: number, context: OpenContext | undefined): number {
  const fd = open(path, flags);
  if (fd >= 0) return fd;
  const isDenied = [-ERRNO.EROFS, -ERRNO.EACCES, -ERRNO.EPERM].includes(fd);
  if (!isDenied || (flags & O.RDWR) === 0) throw cannotOpen(path, -fd, context);
  const readable = open(path, O.RDONLY | O.CLOEXEC);
  if (readable < 0) throw cannotOpen(path, -fd, context);
  close(readable);
  throw new KernelError(`${path} cannot be written: ${errnoText(-fd)}`, -fd, {
    hint: "add --read-only",
  });
}

function cannotOpen(path: string, errno: number, context: OpenContext | undefined): KernelError {
  return new KernelError(`Cannot open ${path}: ${errnoText(errno)}`, errno, {
    hint: hintFor(path, errno, context),
  });
}

function hintFor(path: string, errno: number, context: OpenContext | undefined): string {
  if (errno === ERRNO.ENOENT && context?.isNew) return `make it, such as: truncate -s 10G ${path}`;
  if (errno === ERRNO.ENOENT) return `put ${basename(path)} back, then try again`;
  if (errno === ERRNO.EACCES || errno === ERRNO.EPERM) return `look at: ls -l ${path}`;
  if (errno === ERRNO.ETXTBSY) return "it is a program that runs";
  return "name a regular file or a block device that can be opened";
}

/**
 * Throws unless `sizeBytes` is a whole number of blocks, at least one. `what` begins the sentence;
 * `remedy` gets the nearest smaller size that would do.
 */
export function checkWholeBlocks(
  what: string,
  sizeBytes: number,
  blockBytes: number,
  remedy: (goodBytes: number) => string,
): void {
  if (sizeBytes >= blockBytes && sizeBytes % blockBytes === 0) return;
  const goodBytes = Math.max(blockBytes, sizeBytes - (sizeBytes % blockBytes));
  throw new UblkError(
    `${what} ${sizeBytes} bytes (${formatBytes(sizeBytes)}), ` +
      `which is not a whole number of ${blockBytes}-byte blocks`,
    { hint: remedy(goodBytes) },
  );
}
