// As many queues as a device can have: one a CPU that is there or may come, in a guest with room for 32.

import { afterEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";

import { readBlock } from "../support/crash.ts";
import { leftovers, TestDevice, ublkOk } from "../support/program.ts";

const QUEUES = 32;

afterEach(() => expect(leftovers()).toEqual([]));

const hasRoom =
  readFileSync("/sys/devices/system/cpu/possible", "utf8").trim() === `0-${QUEUES - 1}`;

/** Served by so many threads, each its own queue's. */
async function expectServed(device: TestDevice): Promise<void> {
  const { queues, state } = await device.report();
  expect(state).toBe("LIVE");
  expect(queues).toHaveLength(QUEUES);
  expect(new Set(queues.map(({ threadId }) => threadId)).size).toBe(QUEUES);
  expect(queues.map(({ threadId }) => threadId)).not.toContain(null);
  await readBlock(device.path);
}

test.skipIf(!hasRoom)("32 queues are served, and recovered", async () => {
  await using device = await TestDevice.add("null", "-n0", `-q${QUEUES}`, "--timeout=120s");
  await expectServed(device);
  await device.killServer();
  await ublkOk("recover", "0", "--quiet", "--timeout=120s");
  await expectServed(device);
});
