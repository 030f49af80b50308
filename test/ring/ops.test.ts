// The prep functions against the kernel: files through mapped memory, and large offsets.

import { expect, test } from "bun:test";
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { ERRNO } from "../../src/ffi/errno.ts";
import { mapMemory } from "../../src/ffi/memory.ts";
import { IORING_FSYNC, IOSQE } from "../../src/ffi/uring.ts";
import {
  addFlags,
  prepFallocate,
  prepFsync,
  prepRead,
  prepTimeout,
  prepWrite,
  setUserData,
} from "../../src/ring/ops.ts";
import type { Ring } from "../../src/ring/ring.ts";
import { complete, openRing } from "./support.ts";

/** An empty file, gone with the test. */
function temporaryFile() {
  const folder = mkdtempSync(join(tmpdir(), "ublk-bun-ops-"));
  const path = join(folder, "data");
  const fd = openSync(path, "w+");
  return {
    path,
    fd,
    [Symbol.dispose]() {
      closeSync(fd);
      rmSync(folder, { recursive: true });
    },
  };
}

/** The result of the one operation that `prep` puts into the ring. */
function resultOf(ring: Ring, prep: (sqes: Int32Array, at: number) => void): number {
  const at = ring.sqe();
  prep(ring.sqes, at);
  setUserData(ring.sqes, at, 1, 0);
  return complete(ring, 1)[0]![2];
}

test("what is written is read back, from and to mapped memory", () => {
  using ring = openRing();
  using file = temporaryFile();
  using memory = mapMemory(8192);
  const { fd } = file;
  const { bytes, address } = memory;
  for (let n = 0; n < 4096; n++) bytes[n] = n * 7;
  expect(resultOf(ring, (sqes, at) => prepWrite(sqes, at, fd, address, 4096, 512))).toBe(4096);
  const read = resultOf(ring, (sqes, at) => prepRead(sqes, at, fd, address + 4096, 4096, 512));
  expect(read).toBe(4096);
  expect(Buffer.compare(bytes.subarray(0, 4096), bytes.subarray(4096))).toBe(0);
  expect(readFileSync(file.path).subarray(512, 522)).toEqual(Buffer.from(bytes.subarray(0, 10)));
});

test("offsets beyond 2^32 and registered files", () => {
  using ring = openRing();
  using file = temporaryFile();
  using memory = mapMemory(4096);
  const { address, bytes } = memory;
  const offset = 5 * 2 ** 32 + 0x9000_0000;
  bytes.fill(0xab, 0, 100);
  ring.registerFiles([file.fd]);
  const wrote = resultOf(ring, (sqes, at) => {
    prepWrite(sqes, at, 0, address, 100, offset);
    addFlags(sqes, at, IOSQE.FIXED_FILE);
  });
  expect(wrote).toBe(100);
  expect(fstatSync(file.fd).size).toBe(offset + 100);
  bytes.fill(0);
  const read = resultOf(ring, (sqes, at) => prepRead(sqes, at, file.fd, address, 200, offset));
  expect(read).toBe(100);
  expect(bytes[99]).toBe(0xab);
});

test("fallocate and fsync take their arguments where the kernel looks for them", () => {
  using ring = openRing();
  using file = temporaryFile();
  const { fd } = file;
  const size = 3 * 2 ** 20;
  expect(resultOf(ring, (sqes, at) => prepFallocate(sqes, at, fd, 0, 4096, size))).toBe(0);
  expect(fstatSync(fd).size).toBe(4096 + size);
  expect(resultOf(ring, (sqes, at) => prepFsync(sqes, at, fd))).toBe(0);
  const sync = resultOf(ring, (sqes, at) => prepFsync(sqes, at, fd, IORING_FSYNC.DATASYNC));
  expect(sync).toBe(0);
  expect(resultOf(ring, (sqes, at) => prepFsync(sqes, at, -1))).toBe(-ERRNO.EBADF);
});

test("a timer completes with ETIME, the later the longer it is", () => {
  using ring = openRing();
  using memory = mapMemory(4096);
  const words = new Int32Array(memory.bytes.buffer);
  const timed = (seconds: number, nanoseconds: number) => {
    words[0] = seconds;
    words[2] = nanoseconds;
    const began = performance.now();
    const result = resultOf(ring, (sqes, at) => prepTimeout(sqes, at, memory.address));
    expect(result).toBe(-ERRNO.ETIME);
    return performance.now() - began;
  };
  // A timer never ends early, however busy the machine.
  expect(timed(0, 50_000_000)).toBeGreaterThanOrEqual(49);
  expect(timed(1, 0)).toBeGreaterThanOrEqual(999);
  expect(timed(0, 0)).toBeLessThan(999);
});
