// The tortures of `npm run torture`, in short: data, histories, file systems and commands across crashes.
// fio over mem and stripe is in their own files.

import { afterEach, expect, test } from "bun:test";

import { batchWords } from "../support/batch.ts";
import { leftovers, runOk, TestDevice } from "../support/program.ts";
import { Scratch } from "../support/scratch.ts";
import { sparseFile } from "../support/sparse-file.ts";
import { ODD_PROGRAM } from "../support/torture/build.ts";
import { DEATHS } from "../support/torture/death.ts";
import { historyCheck, observe } from "../support/torture/history-check.ts";
import { mounted } from "../support/torture/mounted.ts";
import { steps } from "../support/torture/steps.ts";
import { torture } from "../support/torture/torture.ts";
import { verifyThroughDeaths } from "../support/torture/verified.ts";
import { endWatch, startWatch } from "../support/watching.ts";

const MIB = 1024 ** 2;

afterEach(() => expect(leftovers()).toEqual([]));

test("fio's checksums hold on loop, through deaths of every kind, and under watch", async () => {
  await using scratch = await Scratch.make(["mkfs.ext4", "-q"], 64 * MIB);
  const file = scratch.file("disk", 32 * MIB);
  await using device = await TestDevice.add("loop", "-n0", "-q2", "-f", file);
  await verifyThroughDeaths(device, torture(8));
  await using watch = await startWatch();
  await verifyThroughDeaths(device, torture(8), { isWatched: true });
  await endWatch(watch);
  await runOk("cmp", device.path, file);
});

test("history: what is found after each crash can be explained by what was acknowledged", async () => {
  await historyCheck(torture(2));
});

test("history: a server that commits before it writes is found out", async () => {
  const file = sparseFile("/dev/shm/hasty", 8 * MIB);
  await runOk(ODD_PROGRAM, "add", "hasty", "-n0", "-q1", ...batchWords, "-f", file);
  await using device = new TestDevice(0);
  try {
    const deaths = DEATHS.slice(0, 1);
    const { violations } = await observe(device, torture(1), { deaths, by: ODD_PROGRAM });
    expect(violations.length).toBeGreaterThan(0);
  } finally {
    // Only it knows the target.
    await runOk(ODD_PROGRAM, "del", "0", "--force");
  }
});

test("ext4 mounted across ten crashes: fsck finds nothing, every file is what it should be", async () => {
  await mounted(torture(10));
});

test("killed at any step, whatever is left is dealt with by list, recover, stop and del", async () => {
  await steps(torture(4));
});
