// The file of an overlay: made, or found again and checked.

import type { FileHandle } from "node:fs/promises";

import { BlockError } from "../api/index.ts";
import { dirname, openFile, readFileSync, readSync, writeSync } from "../builtin.ts";
import { EXIT, messageOf, UblkError } from "../errors.ts";
import { FALLOC_FL } from "../ffi/block.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import { fallocate } from "../ffi/libc.ts";
import { formatBytes } from "../units.ts";
import { layoutOf, LOST_AT, type OverlayFile, type OverlayShape } from "./overlay.ts";

/** What the file begins with, as JSON: less than a sector, so that it is written as a whole. */
interface Header extends OverlayShape {
  readonly format: "ublk-bun cow";
  readonly version: 1;
  /** The boot of this machine that the recent map belongs to. */
  readonly bootId: string;
}

interface OpenOptions extends OverlayShape {
  /** False: it is there, with all that it holds, and nothing of it may be changed. */
  readonly isNew: boolean;
}

const HEADER_BYTES = 512;
const ZEROES = new Uint8Array(256 * 1024);

/** Opens the overlay at `path`, or makes it. Throws UblkError. */
export async function openOverlayFile(path: string, options: OpenOptions): Promise<OverlayFile> {
  const file = await openOrMake(path, options.isNew);
  try {
    await prepare(file, path, options);
    return fileOf(file);
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function openOrMake(path: string, isNew: boolean): Promise<FileHandle> {
  try {
    return await openFile(path, "r+");
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === "ENOENT";
    if (!isMissing || !isNew) throw cannot("open", path, cause);
  }
  try {
    return await openFile(path, "wx+", 0o600);
  } catch (cause) {
    throw cannot("make", path, cause);
  }
}

async function prepare(file: FileHandle, path: string, options: OpenOptions): Promise<void> {
  const { isNew, sizeBytes, blockBytes } = options;
  const { totalBytes, recentAt } = layoutOf(options);
  const stat = await file.stat();
  if (!stat.isFile()) throw new UblkError(`${path} is not a regular file`);
  const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  const header: Header = { format: "ublk-bun cow", version: 1, sizeBytes, blockBytes, bootId };
  if (stat.size === 0 && isNew) {
    await file.truncate(totalBytes);
    await writeHeader(file, header);
    return syncFolder(path);
  }
  const found = await readHeader(file);
  if (found === undefined) {
    throw new UblkError(`${path} is not an overlay of ublk-bun`, {
      hint: "nothing was changed; name a file that is not there yet, or one made by --filter cow",
    });
  }
  if (found.sizeBytes !== sizeBytes || found.blockBytes !== blockBytes) {
    throw new UblkError(
      `${path} belongs over a disk of ${formatBytes(found.sizeBytes)} (${found.sizeBytes} bytes) ` +
        `in blocks of ${found.blockBytes}; this one has ${sizeBytes} bytes in blocks of ${blockBytes}`,
      { hint: "nothing was changed; an overlay is good for the disk that it was made over" },
    );
  }
  if (found.bootId === bootId && stat.size === totalBytes) return;
  if (!isNew || stat.size < recentAt) {
    throw new UblkError(`${path} is not what the disk's server has left: it was changed or cut`, {
      exitCode: EXIT.notRecoverable,
      hint: "nothing was changed",
    });
  }
  // Of another boot: what was not flushed then may be half there, or lost, and is not looked at any more.
  await file.truncate(recentAt);
  await file.truncate(totalBytes);
  await file.write(Uint8Array.of(0), 0, 1, LOST_AT);
  await file.sync();
  await writeHeader(file, header);
}

async function readHeader(file: FileHandle): Promise<Header | undefined> {
  const bytes = Buffer.alloc(HEADER_BYTES);
  await file.read(bytes, 0, HEADER_BYTES, 0);
  try {
    const header = JSON.parse(bytes.toString("utf8").replace(/\0+$/, "")) as Header | null;
    return header?.format === "ublk-bun cow" && header.version === 1 ? header : undefined;
  } catch {
    return undefined;
  }
}

async function writeHeader(file: FileHandle, header: Header): Promise<void> {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.write(`${JSON.stringify(header)}\n`);
  await file.write(bytes, 0, HEADER_BYTES, 0);
  await file.sync();
}

/** So that the new file has its name after a power failure, too. */
async function syncFolder(path: string): Promise<void> {
  const folder = await openFile(dirname(path), "r");
  await folder.sync();
  await folder.close();
}

function cannot(what: string, path: string, cause: unknown): UblkError {
  return new UblkError(`Cannot ${what} the overlay ${path}: ${messageOf(cause)}`, {
    cause,
    hint: "nothing was changed",
  });
}

function fileOf(file: FileHandle): OverlayFile {
  const { fd } = file;
  const write = async (from: Uint8Array, at: number) => {
    const { length } = from;
    for (let done = 0; done < length;) {
      const left = length - done;
      done += (await block(() => file.write(from, done, left, at + done))).bytesWritten;
    }
  };
  return {
    write,
    async read(into, at) {
      const { length } = into;
      for (let done = 0; done < length;) {
        const left = length - done;
        const { bytesRead } = await block(() => file.read(into, done, left, at + done));
        if (bytesRead === 0) throw cut();
        done += bytesRead;
      }
    },
    readNow(into, at) {
      for (let done = 0; done < into.length;) {
        const bytes = blockNow(() => readSync(fd, into, done, into.length - done, at + done));
        if (bytes === 0) throw cut();
        done += bytes;
      }
    },
    writeNow(from, at) {
      for (let done = 0; done < from.length;) {
        done += blockNow(() => writeSync(fd, from, done, from.length - done, at + done));
      }
    },
    reserveNow(at, length) {
      const result = allocate(fd, 0, at, length);
      if (result < 0 && result !== -ERRNO.EOPNOTSUPP) throw new BlockError(errnoName(-result));
    },
    async zero(at, length, { mayUnmap }) {
      const mode = FALLOC_FL.PUNCH_HOLE | FALLOC_FL.KEEP_SIZE;
      const result = mayUnmap ? allocate(fd, mode, at, length) : -ERRNO.EOPNOTSUPP;
      if (result === -ERRNO.EOPNOTSUPP) {
        for (let done = 0; done < length; done += ZEROES.length) {
          await write(ZEROES.subarray(0, Math.min(ZEROES.length, length - done)), at + done);
        }
      } else if (result < 0) throw new BlockError(errnoName(-result));
    },
    sync: () => block(() => file.datasync()),
    close: () => file.close(),
  };
}

/** The engine's own signals end a fallocate of tmpfs. */
function allocate(fd: number, mode: number, at: number, length: number): number {
  for (;;) {
    const result = fallocate(fd, mode, at, length);
    if (result !== -ERRNO.EINTR) return result;
  }
}

const cut = () => new BlockError("EIO", "the overlay file was cut");

async function block<T>(act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    throw asBlockError(error);
  }
}

function blockNow<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw asBlockError(error);
  }
}

/** With the errno of the file's own, which says most: ENOSPC. */
function asBlockError(error: unknown): BlockError {
  const { code = "" } = error as NodeJS.ErrnoException;
  return new BlockError(code in ERRNO ? code : "EIO", `the overlay file: ${messageOf(error)}`);
}
