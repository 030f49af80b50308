// Small files, whole, by the C library: for what a disk waits for while it has no server. Loading node:fs
// would take longer than all that.

import { close, O, open, read, write } from "./libc.ts";

const CHUNK_BYTES = 16_384;
/** Whatever is longer is not what anybody looks for here. */
const BYTES_MAX = 16 * 1024 ** 2;

/** The text of a file that is no link; undefined where it cannot be read. Waits for nobody. */
export function readText(path: string): string | undefined {
  const fd = open(path, O.RDONLY | O.CLOEXEC | O.NOFOLLOW | O.NONBLOCK);
  if (fd < 0) return undefined;
  const chunks: Uint8Array[] = [];
  let count: number;
  do {
    const chunk = new Uint8Array(CHUNK_BYTES);
    count = read(fd, chunk);
    if (count > 0) chunks.push(chunk.subarray(0, count));
  } while (count > 0 && chunks.length * CHUNK_BYTES < BYTES_MAX);
  close(fd);
  return count !== 0 ? undefined : Buffer.concat(chunks).toString("utf8");
}

/** Writes to a file of the kernel's, at once; false where that is not allowed. */
export function writeText(path: string, text: string): boolean {
  const fd = open(path, O.WRONLY | O.CLOEXEC);
  if (fd < 0) return false;
  const bytes = Buffer.from(text);
  const isWritten = write(fd, bytes) === bytes.length;
  close(fd);
  return isWritten;
}
