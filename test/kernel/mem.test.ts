// The RAM disk on a real kernel: its data outlives its server, and nothing of it outlives the device.

import { afterEach, expect, test } from "bun:test";
import { readdirSync, rmSync, statSync, unlinkSync } from "node:fs";

import { leftovers, run, runOk, TestDevice, ublk, ublkOk } from "../support/program.ts";
import { torture } from "../support/torture/torture.ts";
import { verifyThroughDeaths } from "../support/torture/verified.ts";
import { dataModes } from "../support/verify.ts";

const MIB = 1024 ** 2;

/** Memory of RAM disks. */
const memory = () => readdirSync("/dev/shm").filter((name) => name.startsWith("ublk-bun-"));

afterEach(() => expect([...leftovers(), ...memory()]).toEqual([]));

async function fileOf(device: TestDevice): Promise<string> {
  return `/dev/shm/ublk-bun-${(await device.report()).identity}`;
}

const used = (file: string) => statSync(file).blocks * 512;

const fill = (path: string) =>
  runOk("dd", "if=/dev/urandom", `of=${path}`, "bs=1M", "count=8", "oflag=direct", "status=none");

test("without a mode it moves data in the best way that the kernel has", async () => {
  await using device = await TestDevice.add("mem", "-n0", "--size=8MiB");
  const isNew = (await dataModes()).includes("--auto-zc");
  expect((await device.report()).flags.includes("AUTO_BUF_REG")).toBe(isNew);
});

test("its data is there after kill -9 and recover; del removes it", async () => {
  await using device = await TestDevice.add("mem", "-n0", "--size=8MiB");
  await fill(device.path);
  const before = await runOk("sha256sum", device.path);
  expect(statSync(await fileOf(device)).mode & 0o777).toBe(0o600);
  await device.killServer();
  expect(memory()).toHaveLength(1);
  await ublkOk("recover", "0", "--quiet");
  expect(await runOk("sha256sum", device.path)).toBe(before);
  await ublkOk("del", "0");
  expect(memory()).toEqual([]);
});

test("verified writes go on through kills and recoveries", async () => {
  await using device = await TestDevice.add("mem", "-n0", "--size=24MiB", "-q2");
  await verifyThroughDeaths(device, torture(4));
});

test("an add that fails leaves no memory behind", async () => {
  await using device = await TestDevice.add("mem", "-n0", "--size=8MiB");
  const [own] = memory();
  const taken = await ublk("add", "mem", "-n0", "--size=8MiB");
  expect(taken.exitCode, taken.stderr).not.toBe(0);
  expect(memory()).toEqual([own!]);
  const huge = await ublk("add", "mem", "-n1", "--size=1000TiB");
  expect(huge.stderr).toContain("does not fit: /dev/shm holds at most");
  expect(huge.exitCode).toBe(1);
  expect(memory()).toEqual([own!]);
  expect((await device.report()).state).toBe("LIVE");
});

test("discards give memory back, and a smaller request does not hurt its neighbours", async () => {
  await using device = await TestDevice.add("mem", "-n0", "--size=8MiB");
  const file = await fileOf(device);
  expect(used(file)).toBeLessThan(MIB);
  await fill(device.path);
  expect(used(file)).toBe(8 * MIB);
  await runOk("cp", file, "/tmp/mem-before");
  await runOk("blkdiscard", "-o", String(2 * MIB), "-l", String(4 * MIB), device.path);
  expect(used(file)).toBe(4 * MIB);
  expect(statSync(file).size).toBe(8 * MIB);
  const range = (from: number, length: number) => ["-i", String(from), "-n", String(length)];
  await runOk("cmp", ...range(0, 2 * MIB), device.path, "/tmp/mem-before");
  await runOk("cmp", ...range(6 * MIB, 2 * MIB), device.path, "/tmp/mem-before");
  await runOk("cmp", "-i", `${2 * MIB}:0`, "-n", String(4 * MIB), device.path, "/dev/zero");
});

test("memory that somebody removed: recover says so, makes none, and changes nothing", async () => {
  await using device = await TestDevice.add("mem", "-n0", "--size=8MiB");
  const file = await fileOf(device);
  await device.killServer();
  unlinkSync(file);
  const { exitCode, stderr } = await ublk("recover", "0");
  expect(stderr).toContain(`The data of device 0 is gone: ${file} is not there any more`);
  expect(stderr).toContain("ublk-bun del 0 --force");
  expect(exitCode).toBe(6);
  expect(memory()).toEqual([]);
  expect((await device.report()).state).toBe("QUIESCED");
  await ublkOk("del", "0", "--force");
});

test("no memory left: ENOSPC at the application, what is written stays, the disk serves on", async () => {
  // Ours alone for the moment: 16 MiB, of which 12 are taken.
  await runOk("mount", "-t", "tmpfs", "-o", "size=16M", "tmpfs", "/dev/shm");
  try {
    await runOk("fallocate", "-l", "12M", "/dev/shm/other");
    const added = await ublk("add", "mem", "-n0", "--size=8MiB", "-q2");
    await using device = new TestDevice(0);
    expect(added.exitCode).toBe(0);
    expect(added.stderr).toContain("/dev/shm has room for 4 MiB now: writes beyond that fail");
    const pid = await device.serverPid();
    const dd = (...words: string[]) =>
      run(["dd", "if=/dev/urandom", `of=${device.path}`, "bs=1M", ...words]);
    expect((await dd("count=2", "oflag=direct")).exitCode).toBe(0);
    const before = await runOk("sha256sum", device.path);
    const full = await dd("count=6", "seek=2", "oflag=direct");
    expect(full.stderr).toContain("No space left on device");
    // What is in the page cache fails when it is written: fsync tells.
    expect((await dd("count=2", "seek=6", "conv=fsync")).exitCode).toBe(1);
    await runOk("blkdiscard", "-o", String(2 * MIB), "-l", String(6 * MIB), device.path);
    expect(await runOk("sha256sum", device.path)).toBe(before);
    rmSync("/dev/shm/other");
    expect((await dd("count=6", "seek=2", "oflag=direct")).exitCode).toBe(0);
    expect(await device.serverPid()).toBe(pid);
  } finally {
    await runOk("umount", "/dev/shm");
  }
});

test("without --size it is a usage error", async () => {
  const { exitCode, stderr } = await ublk("add", "mem");
  expect(stderr).toContain("How large? (such as --size 1GiB)");
  expect(exitCode).toBe(2);
});
