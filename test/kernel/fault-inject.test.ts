// A disk that is slow, fails or dies on purpose, as an application sees it.

import { afterEach, expect, test } from "bun:test";
import { closeSync, constants, openSync, readFileSync, readSync } from "node:fs";

import { errnoName } from "../../src/ffi/errno.ts";
import { median, readBlock, start, untilWaiting } from "../support/crash.ts";
import { isLong } from "../support/long.ts";
import { hasFeature, leftovers, runOk, TestDevice, ublk, ublkOk } from "../support/program.ts";

// The driver forgets a server that died while it fetched. Older ones do not, and warn in the kernel's
// log about their own lost command, which would fail the run: see docs/recovery.md.
const forgives = await hasFeature("UPDATE_SIZE");

afterEach(() => expect(leftovers()).toEqual([]));

const readBlocks = (path: string, count: number) => [
  "dd",
  `if=${path}`,
  "of=/dev/null",
  "bs=4k",
  `count=${count}`,
  "iflag=direct",
  "status=none",
];

/** What one direct read comes to: "" or the name of its errno. */
function readResult(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECT);
  try {
    readSync(fd, new Uint8Array(4096), 0, 4096, 4096);
    return "";
  } catch (error) {
    return errnoName(Math.abs((error as NodeJS.ErrnoException).errno ?? 0));
  } finally {
    closeSync(fd);
  }
}

test("--delay-us delays: reads one after the other take longer, the longer the delay", async () => {
  await using prompt = await TestDevice.add("fault_inject", "-n0");
  await using slow = await TestDevice.add("fault_inject", "-n1", "--delay_us", "20000");
  await using slower = await TestDevice.add("fault_inject", "-n2", "--delay-us", "80000");
  const times: number[][] = [[], [], []];
  for (let round = 0; round < 3; round++) {
    for (const [n, { path }] of [prompt, slow, slower].entries()) {
      const began = performance.now();
      await runOk(...readBlocks(path, 25));
      times[n]!.push(performance.now() - began);
    }
  }
  const [none, some, much] = times.map(median) as [number, number, number];
  // A delay is never shorter than it was asked for; how much longer is the machine's affair.
  expect(some).toBeGreaterThan(25 * 20);
  expect(much).toBeGreaterThan(25 * 80);
  expect(much).toBeGreaterThan(none);
});

test("delayed requests wait side by side, not one behind the other", async () => {
  await using device = await TestDevice.add("fault_inject", "-n0", "--delay-us", "40000");
  /** By its own clock: its start is no part of it. */
  const fio = async (depth: number) => {
    const words = `--name=job --filename=${device.path} --rw=randread --bs=4k --direct=1
      --ioengine=libaio --iodepth=${depth} --number_ios=64 --size=1g --output-format=json`;
    const stdout = await runOk("fio", ...words.split(/\s+/));
    const { jobs } = JSON.parse(stdout.slice(stdout.indexOf("{")));
    return jobs[0].read.runtime as number;
  };
  expect((await fio(1)) / (await fio(32))).toBeGreaterThan(1.5);
});

// Some of those that the kernel hands on as they are.
const ERRORS = [
  "EIO",
  "ENOSPC",
  ...(isLong ? ["EOPNOTSUPP", "ETIMEDOUT", "EBADE", "ENODATA"] : []),
];

test.each(ERRORS)(
  "--error %s is what the application gets, and the server lives",
  async (error) => {
    const words = ["--error-rate", "1", "--error", error];
    await using device = await TestDevice.add("fault_inject", "-n0", ...words);
    expect(readResult(device.path)).toBe(error);
    expect(readResult(device.path)).toBe(error);
    expect((await device.report()).state).toBe("LIVE");
  },
);

test("--die-after N: its server is gone, its disk waits, the next server goes on", async () => {
  await using device = await TestDevice.add("fault_inject", "-n0", "--die-after=500");
  // More than one server answers, less than two do.
  await using dd = start(...readBlocks(device.path, 700));
  await device.untilState("QUIESCED");
  // What it counts as completed is completed for the kernel too.
  expect(Number(readFileSync("/sys/block/ublkb0/stat", "utf8").trim().split(/\s+/)[0])).toBe(500);
  await untilWaiting(dd, device.path);
  await ublkOk("recover", "0", "--quiet");
  const { exitCode, stderr } = await dd.ended;
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  const { state, restarts } = await device.report();
  expect({ state, restarts }).toEqual({ state: "LIVE", restarts: 1 });
});

test("add --no-wait returns while the disk's first read is far from answered", async () => {
  const slow = ["--delay-us", "600000000", "--no-wait"];
  if (!forgives) {
    // Linux 6.12 reads the disk inside START_DEV: there is nothing to return before.
    const { exitCode, stderr } = await ublk("add", "fault_inject", "-n0", "--timeout=3s", ...slow);
    expect(stderr).toContain("does not answer the kernel's first reads");
    expect(exitCode).toBe(124);
    return;
  }
  await using device = await TestDevice.add("fault_inject", "-n0", "-q2", ...slow);
  expect((await device.report()).state).toBe("LIVE");
});

// Linux 6.12 reads the disk inside START_DEV, and does not forgive a server that dies at that moment: the
// device stays until a reboot (docs/troubleshooting.md).
test.skipIf(!forgives)(
  "add --die-after 1 and --die-during-fetch 1: add says so, nothing is left",
  async () => {
    // The first request may come before or after it has said that it is live.
    const either = /(died while it was starting|served, and has ended .*): SIGKILL/;
    for (const [words, died] of [
      [["--die-after=1"], either],
      [["--die-during-fetch=1", "-q2"], /died while it was starting: SIGKILL/],
    ] as const) {
      const { exitCode, stderr } = await ublk("add", "fault_inject", "-n0", ...words);
      expect(stderr).toMatch(died);
      expect(exitCode).toBe(1);
      expect(leftovers()).toEqual([]);
    }
  },
);

test.skipIf(!forgives)(
  "recover --die-during-fetch 1: QUIESCED still, and recovered later",
  async () => {
    await using device = await TestDevice.add("fault_inject", "-n0", "-q2");
    await device.killServer();
    const died = await ublk("recover", "0", "--die_during_fetch", "1");
    expect(died.stderr).toContain("died while it was starting: SIGKILL");
    expect(died.exitCode).toBe(1);
    await device.untilState("QUIESCED");
    const inFront = await ublk("recover", "0", "--die_during_fetch", "1", "--foreground");
    expect(inFront.exitCode).toBe(137);
    await device.untilState("QUIESCED");
    await ublkOk("recover", "0", "--quiet");
    await readBlock(device.path);
    expect((await device.report()).state).toBe("LIVE");
    // That one server died of it, not those that come after.
    await device.killServer();
    await ublkOk("recover", "0", "--quiet");
    await readBlock(device.path);
  },
);

test("recover --die-during-fetch of a disk that has no such option is refused", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await device.killServer();
  const { exitCode, stderr } = await ublk("recover", "0", "--die-during-fetch", "1");
  expect(stderr).toContain("Device 0 is a null");
  expect(exitCode).toBe(2);
  await ublkOk("recover", "0", "--quiet");
  await readBlock(device.path);
});
