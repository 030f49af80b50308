// del of many devices, del that does not wait, and stop --safe, on a real kernel.

import { afterEach, expect, test } from "bun:test";

import { start } from "../support/crash.ts";
import { buildKublk } from "../support/peer.ts";
import { leftovers, runOk, TestDevice, ublk, ublkOk, until } from "../support/program.ts";

const kublk = await buildKublk();

afterEach(() => expect(leftovers()).toEqual([]));

test("del -a: every one of ours goes, one that is open stays and is told, the rest goes on", async () => {
  expect(await ublkOk("del", "-a")).toBe("");
  for (const n of ["0", "1", "2"]) await ublkOk("add", "null", "-n", n);
  await using open = new TestDevice(1);
  const holder = Bun.spawn(["sleep", "1000"], { stdio: [Bun.file(open.path), null, null] });
  const { exitCode, stdout, stderr } = await ublk("del", "-a");
  expect(stdout).toBe("/dev/ublkb0 is deleted\n/dev/ublkb2 is deleted\n");
  expect(stderr).toContain(`/dev/ublkb1 is in use: open in pid ${holder.pid} (sleep)`);
  expect(exitCode).toBe(5);
  expect(await open.report()).toMatchObject({ state: "LIVE" });
  holder.kill();
  await holder.exited;
  expect(JSON.parse(await ublkOk("del", "--all", "--json"))).toEqual([
    { id: 1, deleted: true, error: null },
  ]);
  expect(leftovers()).toEqual([]);
});

test("del -a leaves another tool's device alone; with --force it goes too", async () => {
  await runOk(kublk, "add", "-t", "null", "-n", "0", "-q", "1");
  await using theirs = new TestDevice(0);
  await ublkOk("add", "null", "-n1");
  const { exitCode, stdout, stderr } = await ublk("del", "-a");
  expect(stdout).toBe("/dev/ublkb1 is deleted\n");
  expect(stderr).toContain("device 0 is another tool's: left alone");
  expect(exitCode).toBe(0);
  expect(await theirs.report()).toMatchObject({ state: "LIVE", ours: false });
  expect(await ublkOk("del", "-a", "--force")).toBe("/dev/ublkb0 is deleted\n");
});

test("del -a: a disk goes after the one that lies on it", async () => {
  await using below = await TestDevice.add("mem", "-n0", "--size=1MiB");
  await using above = await TestDevice.add("loop", "-n1", "-f", below.path);
  expect((await ublk("stop", "0")).stderr).toContain(`open in pid ${await above.serverPid()}`);
  expect(await ublkOk("del", "-a")).toBe("/dev/ublkb1 is deleted\n/dev/ublkb0 is deleted\n");
  expect(leftovers()).toEqual([]);
});

test("del --async returns without waiting; the device goes", async () => {
  await ublkOk("add", "null", "-n0");
  expect(JSON.parse(await ublkOk("del", "0", "--async", "--json"))).toEqual({
    id: 0,
    deleted: true,
  });
  await until("everything is gone", () => leftovers().length === 0);
});

test("del --async of an open disk is refused like del; with --force it does not wait for the holder", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const holder = Bun.spawn(["sleep", "1000"], { stdio: [Bun.file(device.path), null, null] });
  const { exitCode, stderr } = await ublk("del", "0", "--async");
  expect(stderr).toContain(`/dev/ublkb0 is in use: open in pid ${holder.pid} (sleep)`);
  expect(exitCode).toBe(5);
  expect((await device.report()).state).toBe("LIVE");
  expect(await ublkOk("del", "0", "--async", "--force")).toBe("/dev/ublkb0 is deleted\n");
  expect(holder.exitCode).toBeNull();
  holder.kill();
  await until("everything is gone", () => leftovers().length === 0);
});

test("del --async --force of a busy disk: its requests end, the device goes", async () => {
  const slow = ["--size=64MiB", "--delay-us=2000"];
  await using device = await TestDevice.add("fault_inject", "-n0", "-q2", ...slow);
  const words = `--name=busy --filename=${device.path} --rw=randrw --bs=4k --direct=1 --iodepth=32
    --numjobs=2 --ioengine=libaio --time_based --runtime=600 --thread`;
  await using fio = start("fio", ...words.split(/\s+/));
  await device.untilBusy();
  expect((await ublk("del", "0", "--async")).exitCode).toBe(5);
  expect(fio.running).toBeTrue();
  await ublkOk("del", "0", "--async", "--force");
  expect((await fio.ended).stderr).toMatch(/Input\/output error|No such device/);
  await until("everything is gone", () => leftovers().length === 0);
});

test("stop --safe is what stop does anyway", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const holder = Bun.spawn(["sleep", "1000"], { stdio: [Bun.file(device.path), null, null] });
  expect((await ublk("stop", "0", "--safe")).exitCode).toBe(5);
  holder.kill();
  await holder.exited;
  expect(await ublkOk("stop", "0", "--safe")).toBe("/dev/ublkb0 is stopped\n");
});

test.each([
  [["del", "-a", "0"], "--all and a device's number"],
  [["del", "--all", "-n", "0"], "--all and a device's number"],
  [["stop", "0", "--safe", "--force"], "--safe and --force exclude each other"],
])("%p is a usage error", async (words, sentence) => {
  const { exitCode, stderr } = await ublk(...words);
  expect(stderr).toContain(sentence);
  expect(exitCode).toBe(2);
});
