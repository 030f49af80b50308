// Flags by name: a bit that Linux 7.3 has must never show as a number.

import { expect, test } from "bun:test";

import { flagNames } from "../../src/device/inspect.ts";
import { modeOf, MODES } from "../../src/device/modes.ts";

test("bits 0 to 20 have names, each its own; what comes later shows as its number", () => {
  const names = flagNames(0x1fffffn);
  expect(names).toHaveLength(21);
  expect(new Set(names).size).toBe(21);
  for (const name of names) expect(name).toMatch(/^[A-Z][A-Z0-9_]+$/);
  expect(flagNames(1n << 40n)).toEqual(["0x10000000000"]);
});

test.each(Object.entries(MODES))(
  "a device with the flags of %s runs as that",
  (mode, { flags }) => {
    expect(modeOf(flags)).toBe(mode as keyof typeof MODES);
    expect(modeOf(flags | 0x1an)).toBe(mode as keyof typeof MODES);
  },
);
