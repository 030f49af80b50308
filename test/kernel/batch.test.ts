// --batch: one command for many requests. What the ordinary commands do, these do, too: whole files of
// the other tests run again with it (test/support/batch.ts); here is what is special to it.

import { afterAll, afterEach, expect, test } from "bun:test";
import { join } from "node:path";

import { keepBusy } from "../support/busy.ts";
import {
  ddWords,
  inFlight,
  killNow,
  mendTarget,
  readBlock,
  recordText,
  start,
} from "../support/crash.ts";
import {
  hasFeature,
  leftovers,
  repository,
  run,
  runOk,
  TestDevice,
  ublk,
  ublkOk,
  until,
} from "../support/program.ts";
import { Scratch } from "../support/scratch.ts";
import { sparseFile } from "../support/sparse-file.ts";
import { torture } from "../support/torture/torture.ts";
import { verifyThroughDeaths } from "../support/torture/verified.ts";
import { UserFolder } from "../support/user-target.ts";
import { verifyMixed } from "../support/verify.ts";

const MIB = 1024 ** 2;
const scratch = await Scratch.make(["mkfs.ext4", "-q"], 128 * MIB);
const hasBatch = await hasFeature("BATCH_IO");

afterEach(() => expect(leftovers()).toEqual([]));
afterAll(() => scratch[Symbol.asyncDispose]());

if (hasBatch) {
  test("a ring target of one's own file: verified I/O of all sizes, and a kill", async () => {
    using user = new UserFolder();
    const file = sparseFile(join(user.path, "disk.img"), 24 * MIB);
    const words = ["--param=path=disk.img", "-n0", "-q2", "--batch"];
    const target = `${repository}/examples/ring-file.ts`;
    await using device = await user.add("--target", target, ...words);
    await verifyMixed(device.path);
    await device.killServer();
    await ublkOk("recover", "0", "--quiet");
    expect(await ublkOk("list", "0")).toContain(" batch recovery reissue restarts 1");
    await runOk("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches");
    await runOk("cmp", device.path, file);
  });

  test("verified writes go on through kills and recoveries", async () => {
    const file = scratch.file("disk", 24 * MIB);
    await using device = await TestDevice.add("loop", "-n0", "-q2", "-f", file, "-b");
    await verifyThroughDeaths(device, torture(3));
    expect(await ublkOk("list", "0")).toContain("\tmode auto-zc batch recovery reissue restarts 3");
    expect(await ublkOk("info", "0")).toContain("BATCH_IO");
    expect(Number(JSON.parse(recordText(0)).flags) & 0x8000).toBe(0x8000);
  });

  test.each([
    ["reissue", 0],
    ["queue", 1],
  ] as const)(
    "--recovery=%s: what the dead server had ends with status %d",
    async (recovery, status) => {
      const fault = ["--fault=swallow", `--fault-at=${1000 * 4096}`, `--recovery=${recovery}`];
      await using device = await TestDevice.add("fault_inject", "-n0", "-b", ...fault);
      const had = start(...ddWords(device.path, 1000));
      await until("the request", () => inFlight(0) === 1);
      await readBlock(device.path, 5);
      killNow(0);
      await device.untilState("QUIESCED");
      const later = start(...ddWords(device.path, 5));
      mendTarget(0);
      await ublkOk("recover", "0");
      expect((await had.ended).exitCode).toBe(status);
      expect((await later.ended).exitCode).toBe(0);
    },
  );

  test("a target that throws: its server is gone, what came with it is done by the next one", async () => {
    const fault = ["--fault=throw", `--fault-at=${1000 * 4096}`, "--recovery=queue"];
    await using device = await TestDevice.add("fault_inject", "-n0", "-b", ...fault);
    expect((await run(ddWords(device.path, 1000))).exitCode).toBe(1);
    await device.untilState("QUIESCED");
    const later = start(...ddWords(device.path, 5));
    await ublkOk("recover", "0");
    expect((await later.ended).exitCode).toBe(0);
  });

  test("upgrade and quiesce under I/O: no request fails", async () => {
    await using device = await TestDevice.add("null", "-n0", "-q2", "--batch");
    const fio = keepBusy(device);
    await fio.isUnderWay();
    await ublkOk("upgrade", "0");
    await fio.isUnderWay();
    await ublkOk("quiesce", "0");
    expect((await device.report()).state).toBe("QUIESCED");
    await ublkOk("recover", "0");
    await fio.isUnderWay();
    await ublkOk("upgrade", "0");
    await fio.end();
  });

  test("--recovery=queue: where requests would fail, upgrade and quiesce are refused", async () => {
    await using device = await TestDevice.add("null", "-n0", "--batch", "--recovery=queue");
    const pid = await device.serverPid();
    for (const verb of ["upgrade", "quiesce"]) {
      const refused = await ublk(verb, "0");
      expect(refused.stderr).toContain("--allow-errors");
      expect(refused.exitCode).toBe(4);
      expect(await device.serverPid()).toBe(pid);
    }
    await readBlock(device.path);
    await ublkOk("quiesce", "0", "--allow-errors");
    await ublkOk("recover", "0");
    await readBlock(device.path);
  });

  test("a request that does not end: quiesce says so, and the server goes on", async () => {
    await using device = await TestDevice.add(
      "fault_inject",
      "-n0",
      "-d4",
      "-b",
      "--fault=swallow",
    );
    const pid = await device.serverPid();
    await using stuck = start(...ddWords(device.path, 262_144));
    await until("the stuck request", () => inFlight(0) === 1);
    const { exitCode, stderr } = await ublk("quiesce", "0", "--timeout", "2s");
    expect(stderr).toContain("did not end within 2 s");
    expect(exitCode).toBe(124);
    expect(await device.serverPid()).toBe(pid);
    await readBlock(device.path, 9);
    expect(stuck.running).toBeTrue();
    await device[Symbol.asyncDispose]();
  });

  test("stop under I/O at the greatest depth: fio hears of it, del cleans up", async () => {
    await using device = await TestDevice.add("null", "-n0", "-q2", "-d4096", "--batch");
    const words = `--name=job --filename=${device.path} --rw=randread --bs=4k --direct=1 --size=1g
      --ioengine=libaio --iodepth=2048 --numjobs=2 --time_based --runtime=3600`;
    await using fio = start("fio", ...words.split(/\s+/));
    await until("many requests", () => inFlight(0) > 500 || !fio.running);
    expect(fio.running).toBeTrue();
    await ublkOk("stop", "0", "--force");
    expect((await fio.ended).exitCode).not.toBe(0);
    await ublkOk("del", "0");
  });
}

test("it is refused with --get-data or a depth of 1, and where the kernel does not have it, before anything is made", async () => {
  const both = await ublk("add", "null", "--batch", "--get-data");
  expect(both.exitCode).toBe(2);
  expect(both.stderr).toContain("exclude each other");
  const shallow = await ublk("add", "null", "--batch", "-d1");
  expect(shallow.exitCode).toBe(2);
  expect(shallow.stderr).toContain("not possible with --depth 1");
  if (hasBatch) return;
  const refused = await ublk("add", "null", "--batch");
  expect(refused.exitCode).toBe(4);
  expect(refused.stderr).toMatch(/BATCH_IO .*Linux 7\.0/);
  expect(leftovers()).toEqual([]);
});
