// mem: a RAM disk in a file under /dev/shm, whose memory outlives the server, so that recovery keeps
// its data. It goes with the device, and with the machine's power.

import type { ParsedArgs } from "citty";

import { fstatSync, ftruncateSync, rmSync, statfsSync } from "../builtin.ts";
import { EXIT, KernelError, UblkError, UsageError } from "../errors.ts";
import { ERRNO, errnoText } from "../ffi/errno.ts";
import { close, O, open } from "../ffi/libc.ts";
import { type Backing, defineTarget, type Geometry, type OpenContext } from "../target.ts";
import { formatBytes, parseDiskSize } from "../units.ts";
import { LoopQueue } from "./loop-queue.ts";

type MemSpec = { readonly sizeBytes: number };

const FOLDER = "/dev/shm";
const BLOCK_BYTES = 512;
const PAGE_BYTES = 4096;
/** One request frees or zeroes no more, so that it ends in good time. */
const RANGE_BYTES_MAX = 1024 ** 3;

const memArgs = {
  size: {
    type: "string",
    description: "size of the disk; memory is used for what is written",
    valueHint: "SIZE",
  },
} as const;

export const mem = defineTarget({
  name: "mem",
  summary: "a RAM disk; its data outlives its server, not its device",
  data: "transfer",
  args: memArgs,
  parse: parseMem,
  open: async ({ sizeBytes }: MemSpec, context) => openMem(sizeBytes, context),
  // A file like any other to the ring.
  serve: (_spec, { queue, facts, fds }) =>
    new LoopQueue(queue, {
      file: String(facts["file"]),
      fd: fds[0]!,
      offsetBytes: 0,
      readOnly: false,
      isDevice: false,
      canDiscard: true,
      mayUnmap: true,
      blockBytes: BLOCK_BYTES,
    }),
  remove: async (_spec, { identity }) => rmSync(fileOf(identity), { force: true }),
  resize: async (spec, sizeBytes, { identity }) => {
    if (sizeBytes > spec.sizeBytes) growFile(fileOf(identity), spec.sizeBytes, sizeBytes);
    return { sizeBytes };
  },
  trim: async ({ sizeBytes }, { identity }) => truncate(fileOf(identity), [sizeBytes]),
});

const fileOf = (identity: string) => `${FOLDER}/ublk-bun-${identity}`;

function parseMem({ size }: ParsedArgs<typeof memArgs>): MemSpec {
  if (size === undefined) throw new UsageError("How large?", "such as --size 1GiB");
  const sizeBytes = parseDiskSize(size, BLOCK_BYTES);
  // Linux reads a disk by the page: a smaller one is good for nothing.
  if (sizeBytes >= PAGE_BYTES) return { sizeBytes };
  throw new UsageError(`--size ${size} is too small for a disk`, `at least ${PAGE_BYTES} bytes`);
}

function geometryOf(sizeBytes: number): Geometry {
  return {
    sizeBytes,
    logicalBlockBytes: BLOCK_BYTES,
    physicalBlockBytes: PAGE_BYTES,
    readOnly: false,
    rotational: false,
    // Once the file has the data it is as durable as memory can be: a flush could add nothing.
    volatileCache: false,
    fua: false,
    discard: { maxBytes: RANGE_BYTES_MAX, granularityBytes: PAGE_BYTES },
    writeZeroes: { maxBytes: RANGE_BYTES_MAX },
  };
}

function openMem(sizeBytes: number, context: OpenContext): Backing {
  const file = fileOf(context.identity);
  if (context.isNew) checkRoom(sizeBytes, context);
  const fd = context.isNew ? make(file, sizeBytes) : find(file, sizeBytes, context);
  return {
    geometry: geometryOf(sizeBytes),
    fds: [fd],
    facts: { file },
    [Symbol.asyncDispose]: async () => void close(fd),
  };
}

/** What can never fit is refused; what does not fit now may later. */
function checkRoom(sizeBytes: number, { note }: Pick<OpenContext, "note">): void {
  const { limitBytes, freeBytes } = room();
  if (sizeBytes > limitBytes) throw tooLarge(sizeBytes, limitBytes);
  if (sizeBytes <= freeBytes) return;
  note(
    `${FOLDER} has room for ${formatBytes(freeBytes)} now: ` +
      `writes beyond that fail with ENOSPC, though the disk has ${formatBytes(sizeBytes)}`,
  );
}

function room(): { readonly limitBytes: number; readonly freeBytes: number } {
  try {
    const { bsize, blocks, bavail } = statfsSync(FOLDER);
    // A tmpfs without a limit says 0.
    if (blocks === 0) return { limitBytes: Infinity, freeBytes: Infinity };
    return { limitBytes: blocks * bsize, freeBytes: bavail * bsize };
  } catch (cause) {
    throw new UblkError(
      `Cannot use ${FOLDER}, which a RAM disk lies in: ${(cause as Error).message}`,
      {
        cause,
        hint: `run: mount -t tmpfs tmpfs ${FOLDER}`,
      },
    );
  }
}

function tooLarge(sizeBytes: number, limitBytes: number): UblkError {
  return new UblkError(
    `A RAM disk of ${formatBytes(sizeBytes)} does not fit: ` +
      `${FOLDER} holds at most ${formatBytes(limitBytes)}`,
    { hint: `a smaller --size, or: mount -o remount,size=${sizeBytes} ${FOLDER}` },
  );
}

function make(file: string, sizeBytes: number): number {
  const fd = open(file, O.RDWR | O.CREAT | O.EXCL | O.CLOEXEC, 0o600);
  if (fd < 0) {
    throw new KernelError(`Cannot make ${file}: ${errnoText(-fd)}`, -fd, {
      hint: `a RAM disk needs a ${FOLDER} that can be written`,
    });
  }
  try {
    ftruncateSync(fd, sizeBytes);
    return fd;
  } catch (cause) {
    close(fd);
    rmSync(file, { force: true });
    throw new UblkError(`Cannot make ${file} as large as ${sizeBytes} bytes`, { cause });
  }
}

/** The memory of an earlier server, whole. */
function find(file: string, sizeBytes: number, context: OpenContext): number {
  const fd = open(file, O.RDWR | O.NOFOLLOW | O.CLOEXEC);
  if (fd === -ERRNO.ENOENT) throw gone(file, "is not there any more", context);
  if (fd < 0) throw new KernelError(`Cannot open ${file}: ${errnoText(-fd)}`, -fd);
  const stats = fstatSync(fd);
  if (stats.isFile() && stats.uid === process.geteuid?.() && stats.size >= sizeBytes) return fd;
  close(fd);
  // Everybody may make files in that folder.
  if (stats.uid !== process.geteuid?.()) throw gone(file, "is somebody else's", context);
  throw gone(file, `has ${stats.size} bytes of ${sizeBytes}`, context);
}

function gone(file: string, what: string, { deviceId }: OpenContext): UblkError {
  return new UblkError(`The data of device ${deviceId} is gone: ${file} ${what}`, {
    exitCode: EXIT.notRecoverable,
    hint: `nothing was changed; to give the disk up: ublk-bun del ${deviceId} --force`,
  });
}

/** Costs nothing until it is written. What an earlier, larger disk has left beyond `fromBytes` does not come back. */
function growFile(file: string, fromBytes: number, toBytes: number): void {
  const { limitBytes } = room();
  if (toBytes > limitBytes) throw tooLarge(toBytes, limitBytes);
  truncate(file, [fromBytes, toBytes]);
}

/** To each of these sizes, one after the other. */
function truncate(file: string, sizesBytes: readonly number[]): void {
  const fd = open(file, O.RDWR | O.NOFOLLOW | O.CLOEXEC);
  if (fd < 0) throw new KernelError(`Cannot open ${file}: ${errnoText(-fd)}`, -fd);
  try {
    for (const sizeBytes of sizesBytes) ftruncateSync(fd, sizeBytes);
  } finally {
    close(fd);
  }
}
