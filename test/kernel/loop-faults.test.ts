// loop on a real kernel when its backing misbehaves: the right error, the server lives, nothing changes.

import { afterAll, afterEach, expect, test } from "bun:test";
import { existsSync, readFileSync, renameSync, truncateSync, unlinkSync } from "node:fs";

import { ddWords, start, untilWaiting } from "../support/crash.ts";
import { leftovers, run, runOk, TestDevice, ublk, ublkOk } from "../support/program.ts";
import { FaultyDevice, LoopDevice, Scratch } from "../support/scratch.ts";

const MIB = 1024 ** 2;

const scratch = await Scratch.make(["mkfs.ext4", "-q"], 128 * MIB);

afterEach(() => expect(leftovers()).toEqual([]));
afterAll(() => scratch[Symbol.asyncDispose]());

/** One MiB of the disk, read or written without the page cache; the CPU decides on the queue. */
function dd(path: string, mib: number, direction: "read" | "write" = "read", cpu = 0) {
  const words =
    direction === "read"
      ? [`if=${path}`, "of=/dev/null", `skip=${mib}`, "iflag=direct"]
      : ["if=/dev/urandom", `of=${path}`, `seek=${mib}`, "oflag=direct"];
  return run(["taskset", "-c", String(cpu), "dd", ...words, "bs=1M", "count=1"]);
}

/** The command fails with `exitCode` and says all of `sentences`; no device is made. */
async function expectRefused(words: string[], exitCode: number, ...sentences: (string | RegExp)[]) {
  const outcome = await ublk(...words);
  expect({ words, ...outcome, milliseconds: 0 }).toMatchObject({ exitCode, stdout: "" });
  for (const sentence of sentences) expect(outcome.stderr).toMatch(sentence);
  expect(leftovers().filter((what) => !what.startsWith("file "))).toEqual([]);
}

const log = (device: TestDevice) => readFileSync(`/run/ublk-bun/${device.id}.log`, "utf8");

test("a backing that shrinks under a live disk: EIO where it ends, said once, the rest goes on", async () => {
  const file = scratch.file("disk", 8 * MIB);
  await using device = await TestDevice.add("loop", "-q2", "-f", file);
  const pid = await device.serverPid();
  await dd(device.path, 6, "write");
  truncateSync(file, 2 * MIB + 1000);
  for (const mib of [6, 7, 2]) {
    for (const cpu of [0, 1]) {
      const outcome = await dd(device.path, mib, "read", cpu);
      expect(outcome.stderr).toContain("Input/output error");
    }
  }
  expect((await dd(device.path, 0)).exitCode).toBe(0);
  expect(await device.serverPid()).toBe(pid);
  expect(log(device).match(/has shrunk/g)).toHaveLength(1);
  expect((await device.report()).state).toBe("LIVE");
  // No successor could serve that, so nobody lets go of it.
  truncateSync(file, 2 * MIB);
  const upgrade = await ublk("upgrade", String(device.id));
  expect(upgrade.stderr).toMatch(/size in sectors/);
  expect(upgrade.exitCode).toBe(1);
  expect(await device.serverPid()).toBe(pid);
  expect((await dd(device.path, 0)).exitCode).toBe(0);
});

test("no space left below: ENOSPC at the application, the disk serves on", async () => {
  await using small = await Scratch.memory("tmpfs", 4 * MIB);
  const file = small.file("disk", 64 * MIB);
  await using device = await TestDevice.add("loop", "-f", file);
  const pid = await device.serverPid();
  for (const mib of [0, 1, 2]) expect((await dd(device.path, mib, "write")).exitCode).toBe(0);
  const much = ["bs=1M", "count=8", "seek=16", "oflag=direct"];
  const full = await run(["dd", "if=/dev/urandom", `of=${device.path}`, ...much]);
  expect(full.stderr).toContain("No space left on device");
  expect((await dd(device.path, 1)).exitCode).toBe(0);
  await runOk("blkdiscard", device.path);
  expect((await dd(device.path, 20, "write")).exitCode).toBe(0);
  expect(await device.serverPid()).toBe(pid);
});

test("I/O errors below are I/O errors above, and the disk serves on", async () => {
  await using backing = await LoopDevice.attach(8 * MIB);
  await using faulty = await FaultyDevice.over(backing.path, 8 * MIB);
  await using device = await TestDevice.add("loop", "-f", faulty.path);
  const pid = await device.serverPid();
  for (const direction of ["read", "write"] as const) {
    expect((await dd(device.path, 5, direction)).stderr).toContain("Input/output error");
    expect((await dd(device.path, 1, direction)).exitCode).toBe(0);
  }
  expect(await device.serverPid()).toBe(pid);
});

test("a file that is removed under a live disk serves on, as any open file does", async () => {
  const file = scratch.file("disk", 8 * MIB);
  await using device = await TestDevice.add("loop", "-f", file);
  const pid = await device.serverPid();
  unlinkSync(file);
  await runOk("dd", "if=/dev/urandom", "of=/tmp/data", "bs=1M", "count=4");
  await runOk("dd", "if=/tmp/data", `of=${device.path}`, "bs=1M", "oflag=direct", "conv=fsync");
  await runOk("cmp", "-n", String(4 * MIB), "/tmp/data", device.path);
  expect(await device.serverPid()).toBe(pid);
  expect(existsSync(file)).toBeFalse();
});

test("a device below that turns read-only: writes fail, reads and the server go on", async () => {
  await using backing = await LoopDevice.attach(8 * MIB);
  await using device = await TestDevice.add("loop", "-f", backing.path);
  const pid = await device.serverPid();
  await runOk("blockdev", "--setro", backing.path);
  expect((await dd(device.path, 1, "write")).stderr).toContain("Input/output error");
  expect((await dd(device.path, 1)).exitCode).toBe(0);
  await runOk("blockdev", "--setrw", backing.path);
  expect((await dd(device.path, 1, "write")).exitCode).toBe(0);
  expect(await device.serverPid()).toBe(pid);
});

test("recover after kill -9 serves what was written; without its backing it says so and changes nothing", async () => {
  const file = scratch.file("disk", 8 * MIB);
  await using device = await TestDevice.add("loop", "-f", file);
  await runOk("dd", "if=/dev/urandom", "of=/tmp/data", "bs=1M", "count=4");
  await runOk("dd", "if=/tmp/data", `of=${device.path}`, "bs=1M", "oflag=direct");
  await device.killServer();
  const recovered = await ublk("recover", String(device.id));
  expect(recovered.exitCode).toBe(0);
  await runOk("cmp", "-n", String(4 * MIB), "/tmp/data", device.path);

  await device.killServer();
  await device.untilState("QUIESCED");
  const waiting = start(...ddWords(device.path, 3));
  await untilWaiting(waiting, device.path);
  renameSync(file, `${file}.away`);
  const refusedMs: number[] = [];
  for (let round = 0; round < 3; round++) {
    const refused = await ublk("recover", String(device.id));
    expect(refused).toMatchObject({ exitCode: 1, stdout: "" });
    expect(refused.stderr).toContain(`Cannot open ${file}: ENOENT`);
    refusedMs.push(refused.milliseconds);
  }
  expect(Math.min(...refusedMs)).toBeLessThan(2 * recovered.milliseconds);
  expect((await device.report()).state).toBe("QUIESCED");
  truncateSync(`${file}.away`, 4 * MIB);
  renameSync(`${file}.away`, file);
  const smaller = await ublk("recover", String(device.id));
  expect(smaller).toMatchObject({ exitCode: 1, stdout: "" });
  expect(smaller.stderr).toContain("size in sectors");
  expect((await device.report()).state).toBe("QUIESCED");
  truncateSync(file, 8 * MIB);
  expect(waiting.running).toBeTrue();
  await ublkOk("recover", String(device.id));
  expect(await waiting.ended).toMatchObject({ exitCode: 0, stderr: "" });
  await runOk("cmp", "-n", String(4 * MIB), "/tmp/data", device.path);
});

test("what cannot be a backing is refused before anything is created", async () => {
  const add = (file: string, ...words: string[]) => ["add", "loop", "-f", file, ...words];
  await expectRefused(add("/tmp/nowhere"), 1, /Cannot open \/tmp\/nowhere: ENOENT/, /truncate/);
  await expectRefused(add("/tmp"), 1, /\/tmp is a folder/);
  await expectRefused(add(scratch.file("empty", 0)), 1, /is empty/);
  await expectRefused(add(scratch.file("tiny", 2560)), 1, /too small for a disk: 2560 bytes/);
  const odd = scratch.file("odd", MIB - 3 * 512);
  await expectRefused(add(odd, "--logical-block-size=4096"), 1, /whole number of 4096-byte blocks/);
  await using device = await LoopDevice.attach(16 * MIB);
  await runOk("blockdev", "--setro", device.path);
  await expectRefused(add(device.path), 1, /is a read-only device/, /--read-only/);
  await runOk("blockdev", "--setrw", device.path);
  await runOk("mkfs.ext4", "-q", device.path);
  await runOk("mkdir", "-p", "/tmp/mounted here");
  await runOk("mount", device.path, "/tmp/mounted here");
  try {
    await expectRefused(add(device.path), 5, /is in use: mounted on \/tmp\/mounted here/);
    await using _ = await TestDevice.add("loop", "-f", device.path, "--force", "--read-only");
  } finally {
    await runOk("umount", "/tmp/mounted here");
  }
});

test("a host-managed zoned device is refused: its zones are written in order only", async () => {
  const zones = ["zoned=1", "zone_size=64", "gb=1", "bs=4096", "nr_devices=1"];
  await runOk("/sbin/modprobe", "null_blk", ...zones);
  try {
    expect(readFileSync("/sys/block/nullb0/queue/zoned", "utf8")).toBe("host-managed\n");
    const why = /\/dev\/nullb0 is a host-managed zoned device/;
    await expectRefused(["add", "loop", "-f", "/dev/nullb0"], 1, why, /dm-zoned/);
    const members = ["-f", scratch.file("member", MIB), "-f", "/dev/nullb0"];
    await expectRefused(["add", "stripe", ...members], 1, why);
  } finally {
    await runOk("/sbin/rmmod", "null_blk");
  }
});

test("where the file system has no O_DIRECT the page cache serves, which is said; --buffered-io is quiet", async () => {
  await using plain = await Scratch.memory("ramfs", MIB);
  const file = plain.file("disk", 4 * MIB);
  for (const [words, said] of [
    [[], true],
    [["--buffered-io"], false],
  ] as const) {
    const outcome = await ublk("add", "loop", "-n0", "-f", file, ...words);
    await using device = new TestDevice(0);
    expect(outcome.exitCode).toBe(0);
    expect(outcome.stderr.includes("no O_DIRECT")).toBe(said);
    await runOk("dd", "if=/dev/urandom", `of=${device.path}`, "bs=512", "count=9", "oflag=direct");
    await runOk("cmp", device.path, file);
  }
});
