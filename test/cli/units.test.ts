// Sizes, times and numbers as people write them.

import { expect, test } from "bun:test";

import {
  formatBytes,
  parseBytes,
  parseDiskSize,
  parseInteger,
  parseMilliseconds,
} from "../../src/units.ts";

test.each([
  ["64MiB", 64 * 1024 ** 2],
  ["64M", 64 * 1024 ** 2],
  ["64mb", 64 * 1024 ** 2],
  ["67108864", 64 * 1024 ** 2],
  ["4k", 4096],
  ["512B", 512],
  ["1.5GiB", 1.5 * 1024 ** 3],
  ["2TiB", 2 * 1024 ** 4],
  [" 8 GiB ", 8 * 1024 ** 3],
])("the size %s is %d bytes", (text, bytes) => {
  expect(parseBytes(text, "--size")).toBe(bytes);
});

test.each(["", "x", "-1", "4q", "1e6", "0x10", "1.3", "4 4", "KiB", "∞"])(
  "%p is not a size",
  (text) => {
    expect(() => parseBytes(text, "--size")).toThrow(`--size "${text}" is not a size`);
  },
);

test("a size beyond what a number can hold is too large, not nonsense", () => {
  for (const text of ["99999999PiB", "8PiB", "9".repeat(400)]) {
    expect(() => parseBytes(text, "--size")).toThrow(`--size "${text}" is too large`);
  }
  expect(parseBytes("4PiB", "--size")).toBe(2 ** 52);
});

test.each([
  ["30", 30_000],
  ["30s", 30_000],
  ["500ms", 500],
  ["2m", 120_000],
  ["0.5", 500],
  ["1.5h", 5_400_000],
  ["0", 0],
])("the time %s is %d ms", (text, milliseconds) => {
  expect(parseMilliseconds(text, "--timeout")).toBe(milliseconds);
});

test.each(["", "x", "-1", "5d", "1e3", "2147483648ms"])("%p is not a time", (text) => {
  expect(() => parseMilliseconds(text, "--timeout")).toThrow("is not a length of time");
});

test("whole numbers keep their bounds, and say them", () => {
  const range = { min: 1, max: 32 };
  expect(parseInteger("1", "--queues", range)).toBe(1);
  expect(parseInteger("32", "--queues", range)).toBe(32);
  for (const text of ["0", "33", "-1", "1.5", "", "x", "0x4", "1e1", "99999999999999999999"]) {
    expect(() => parseInteger(text, "--queues", range)).toThrow(`--queues "${text}"`);
  }
});

test("a disk is a whole number of blocks, and the nearest is named", () => {
  expect(parseDiskSize("1MiB", 512)).toBe(1024 ** 2);
  expect(() => parseDiskSize("1000", 512)).toThrow("512-byte blocks");
  expect(() => parseDiskSize("0", 512)).toThrow();
  let hint: unknown;
  try {
    parseDiskSize("1000", 512);
  } catch (error) {
    hint = (error as { hint?: string }).hint;
  }
  expect(hint).toBe("the nearest is 1024");
});

test.each([
  [0, "0 B"],
  [512, "512 B"],
  [4096, "4 KiB"],
  [268435456000, "250 GiB"],
  [1.5 * 1024 ** 4, "1.5 TiB"],
])("%d bytes are written %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});
