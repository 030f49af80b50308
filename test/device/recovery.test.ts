// Which mode a new device gets, and what is said of it.

import { expect, test } from "bun:test";

import { chooseRecovery } from "../../src/device/recovery.ts";

test.each([
  [undefined, true, "reissue", undefined],
  ["reissue", true, "reissue", undefined],
  ["none", true, "none", undefined],
  [undefined, false, "queue", "--recovery=queue, because"],
  ["reissue", false, "reissue", "gives what a dead server had taken to the next one, but"],
  ["queue", false, "queue", undefined],
  ["fail", false, "fail", undefined],
] as const)("asked for %p, repeatable %p: %s", (asked, isRepeatable, mode, said) => {
  const notes: string[] = [];
  expect(chooseRecovery(asked, isRepeatable, (text) => notes.push(text))).toBe(mode);
  expect(notes).toEqual(said === undefined ? [] : [expect.stringContaining(said)]);
  if (said !== undefined) expect(notes[0]).toContain("does harm to run a request twice");
});
