// update-size reads the device and the size from whatever place they stand in.

import { expect, test } from "bun:test";

import { readSizeWords } from "../../src/cli/commands/update-size.ts";

const MIB = 1024 ** 2;

test.each([
  [{ id: "0", new_size: "64MiB" }],
  [{ id: "0", size: "64MiB" }],
  [{ id: "/dev/ublkb0", size: "64M" }],
  [{ number: "0", size: "64MiB" }],
  [{ number: "0", id: "64MiB" }],
  [{ number: "0", id: "0", size: "64MiB" }],
  [{ number: "0", id: "0", new_size: "67108864" }],
])("%p is device 0 and 64 MiB", (words) => {
  expect(readSizeWords(words)).toEqual({ id: 0, sizeBytes: 64 * MIB });
});

test.each([
  [{ id: "0" }, "Which size?"],
  [{ size: "1G" }, "Which device?"],
  [{ id: "0", new_size: "1G", size: "2G" }, "Two sizes are given: 1G and 2G"],
  [{ number: "1", id: "0", new_size: "1G" }, "Two devices are named"],
  [{ id: "0", size: "0" }, "A disk of 0 bytes is none"],
  [{ id: "0", size: "big" }, '--size "big" is not a size'],
  [{ id: "1G", new_size: "0" }, 'device id "1G" is not possible'],
])("%p is refused: %s", (words, sentence) => {
  expect(() => readSizeWords(words)).toThrow(sentence);
});
