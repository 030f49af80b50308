// Mapped memory: contents, files at large offsets, limits, and the end of it.

import { expect, test } from "bun:test";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { KernelError } from "../../src/errors.ts";
import { mapFile, mapMemory, viewInt32 } from "../../src/ffi/memory.ts";

test("memory is zeroed, page-aligned, and one memory under all its views", () => {
  using memory = mapMemory(10_000);
  expect(memory.address % 4096).toBe(0);
  expect(memory.bytes.every((byte) => byte === 0)).toBe(true);
  const words = viewInt32(memory.address, 4096);
  words[1] = 0x0403_0201;
  expect([...memory.bytes.subarray(4, 8)]).toEqual([1, 2, 3, 4]);
  expect([...memory.view(5, 2)]).toEqual([2, 3]);
  expect(() => memory.view(9_999, 2)).toThrow(/inside 10000/);
});

test("disposal unmaps, once, and views cannot be made after it", () => {
  const memory = mapMemory(1 << 20);
  const start = memory.address.toString(16);
  memory.bytes.fill(1);
  memory[Symbol.dispose]();
  memory[Symbol.dispose]();
  expect(readFileSync("/proc/self/maps", "utf8")).not.toContain(`${start}-`);
  expect(() => memory.bytes).toThrow(/before it is unmapped/);
});

test("more than memory can be set aside without reserving it, and viewed in parts", () => {
  using memory = mapMemory(64 * 2 ** 30, { noReserve: true });
  const last = memory.view(memory.lengthBytes - 4096, 4096);
  last[4095] = 9;
  expect(last[4095]).toBe(9);
  expect(() => memory.bytes).toThrow(/1 to 4294967296 bytes/);
});

test("what does not fit is refused with its size", () => {
  expect(() => mapMemory(2 ** 50)).toThrow(KernelError);
  expect(() => mapMemory(2 ** 50)).toThrow(/1125899906842624 bytes .*: ENOMEM/);
});

test("a file is shared at offsets beyond 2^32, writable or not", () => {
  const folder = mkdtempSync(join(tmpdir(), "ublk-bun-memory-"));
  const fd = openSync(join(folder, "data"), "w+");
  const offset = 2 ** 33 + 8192;
  ftruncateSync(fd, offset + 4096);
  {
    using written = mapFile(fd, offset, 4096, { readOnly: false });
    using read = mapFile(fd, offset, 4096, { readOnly: true });
    written.bytes[17] = 99;
    expect(read.bytes[17]).toBe(99);
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, offset + 17);
    expect(byte[0]).toBe(99);
  }
  expect(() => mapFile(fd, 1, 4096, { readOnly: true })).toThrow(/at offset 1 .*EINVAL/);
  closeSync(fd);
  rmSync(folder, { recursive: true });
});
