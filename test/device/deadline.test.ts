// Waiting no longer than is said, and no shorter.

import { expect, test } from "bun:test";

import { within } from "../../src/device/deadline.ts";

test("a wait longer than a timer can be is not over at once", async () => {
  const soon = Bun.sleep(20).then(() => "there");
  expect(await within(4 * 150 * 3_600_000, soon)).toBe("there");
});

test("what does not come in time is late", async () => {
  expect(await within(1, new Promise(() => {}))).toBe("late");
});
