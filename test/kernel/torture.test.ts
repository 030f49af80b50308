// The tortures of `npm run torture`, in short: data, histories, file systems and commands across crashes.

import { afterEach, expect, test } from "bun:test";

import { leftovers, program, runOk, TestDevice } from "../support/program.ts";
import { chooseSeed } from "../support/seeded.ts";
import { sparseFile } from "../support/sparse-file.ts";
import { ODD_PROGRAM } from "../support/torture/build.ts";
import { DEATHS } from "../support/torture/death.ts";
import { historyCheck, observe } from "../support/torture/history-check.ts";
import { mounted } from "../support/torture/mounted.ts";
import { steps } from "../support/torture/steps.ts";
import { torture } from "../support/torture/torture.ts";
import { verified } from "../support/torture/verified.ts";

const seed = chooseSeed();
const quiet = () => {};

afterEach(() => expect(leftovers()).toEqual([]));

test("verified crash: fio's checksums hold in every data mode, through loop and stripe", async () => {
  const { kills } = await verified(torture(10, seed, quiet));
  expect(kills).toBeGreaterThanOrEqual(10);
});

test("history: what is found after each crash can be explained by what was acknowledged", async () => {
  await historyCheck(torture(4, seed, quiet));
});

test("history: null, which acknowledges and keeps nothing, is found out", async () => {
  await using device = await TestDevice.add("null", "-n0", "-q1", "--size=8MiB");
  await expectFoundOut(device, program);
});

test("history: a server that commits before it writes is found out", async () => {
  const file = sparseFile("/dev/shm/hasty", 8 * 1024 ** 2);
  await runOk(ODD_PROGRAM, "add", "hasty", "-n0", "-q1", "-f", file);
  await using device = new TestDevice(0);
  try {
    await expectFoundOut(device, ODD_PROGRAM);
  } finally {
    // Only it knows the target.
    await runOk(ODD_PROGRAM, "del", "0", "--force");
  }
});

async function expectFoundOut(device: TestDevice, by: string): Promise<void> {
  const deaths = DEATHS.slice(0, 1);
  const { violations } = await observe(device, torture(2, seed, quiet), { deaths, by });
  expect(violations.length).toBeGreaterThan(0);
}

test("ext4 mounted across ten crashes: fsck finds nothing, every file is what it should be", async () => {
  await mounted(torture(10, seed, quiet));
});

test("killed at any step, whatever is left is dealt with by list, recover, stop and del", async () => {
  await steps(torture(6, seed, quiet));
});
