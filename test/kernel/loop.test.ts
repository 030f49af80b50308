// loop on a real kernel: what is written is in its file or device, and nowhere else.

import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmdirSync, rmSync, statSync } from "node:fs";

import { deviceNumbers } from "../../src/targets/backing-device.ts";
import { leftovers, run, runOk, TestDevice } from "../support/program.ts";
import { LoopDevice, Scratch } from "../support/scratch.ts";
import { writeThousandFiles, wrongFiles } from "../support/thousand-files.ts";

const MIB = 1024 ** 2;

const scratch = await Scratch.make(["mkfs.ext4", "-q"], 512 * MIB);

afterEach(() => expect(leftovers()).toEqual([]));
afterAll(() => scratch[Symbol.asyncDispose]());

const used = (file: string) => statSync(file).blocks * 512;

const fileSystems = [
  [
    ["mkfs.ext4", "-q"],
    ["fsck.ext4", "-fn"],
  ],
  [
    ["mkfs.xfs", "-q"],
    ["xfs_repair", "-n"],
  ],
] as const;

async function mounted(path: string, folder: string, work: () => unknown): Promise<void> {
  await runOk("mount", path, folder);
  try {
    await work();
  } finally {
    await runOk("umount", folder);
  }
}

for (const [mkfs, fsck] of fileSystems) {
  test(`${mkfs[0]}: a thousand files are kept, and fstrim gives their space back to the file`, async () => {
    const file = scratch.file("disk", 320 * MIB);
    const folder = mkdtempSync("/tmp/ublk-bun-mounted-");
    await using device = await TestDevice.add("loop", "-f", file);
    await runOk(...mkfs, device.path);
    await mounted(device.path, folder, () => writeThousandFiles(folder));
    await runOk(...fsck, device.path);
    await mounted(device.path, folder, async () => {
      expect(wrongFiles(folder)).toEqual([]);
      const before = used(file);
      rmSync(`${folder}/files`, { recursive: true });
      await runOk("sync", "-f", folder);
      await runOk("fstrim", folder);
      expect(used(file)).toBeLessThan(before - 4 * MIB);
    });
    await runOk(...fsck, device.path);
    rmSync(file);
    rmdirSync(folder);
  });
}

for (const [mkfs, fsck] of fileSystems) {
  test(`${mkfs[0]} over a block device: a thousand files are kept`, async () => {
    await using backing = await LoopDevice.attach(320 * MIB);
    const folder = mkdtempSync("/tmp/ublk-bun-mounted-");
    await using device = await TestDevice.add("loop", "-f", backing.path);
    await runOk(...mkfs, device.path);
    await mounted(device.path, folder, () => writeThousandFiles(folder));
    await runOk(...fsck, device.path);
    await mounted(device.path, folder, () => expect(wrongFiles(folder)).toEqual([]));
    rmdirSync(folder);
  });
}

test("a block device as backing: its block size, data, discards and zeroes", async () => {
  await using backing = await LoopDevice.attach(64 * MIB, "--sector-size=4096");
  await using device = await TestDevice.add("loop", "-f", backing.path);
  expect((await device.report()).logicalBlockBytes).toBe(4096);
  const noise = ["dd", "if=/dev/urandom", `of=${device.path}`, "bs=1M", "count=32", "oflag=direct"];
  await runOk(...noise);
  await runOk("cmp", "-n", String(32 * MIB), device.path, backing.path);
  const range = (from: number, length: number) => ["-o", String(from), "-l", String(length)];
  await runOk("blkdiscard", ...range(MIB, MIB), device.path);
  await runOk("blkdiscard", "-z", ...range(4 * MIB, MIB), device.path);
  await runOk("cmp", "-n", String(MIB), "-i", `${4 * MIB}:0`, device.path, "/dev/zero");
  await runOk("cmp", "-n", String(MIB), "-i", `${MIB}:0`, device.path, "/dev/zero");
  // Nothing beside the ranges is hurt.
  await runOk("cmp", "-n", String(32 * MIB), device.path, backing.path);
  const edges = `for at in 0 2 3 5; do cmp -s -n ${MIB} -i $((at * ${MIB})):0
    ${device.path} /dev/zero && exit 1; done; exit 0`;
  await runOk("sh", "-c", edges.replace("\n", " "));
});

test("--offset and --size map exactly those bytes", async () => {
  const file = scratch.file("disk", 16 * MIB);
  await runOk("dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=16", "conv=notrunc");
  await runOk("cp", file, `${file}.before`);
  {
    const words = ["--offset", "3MiB", "--size", "4MiB"];
    await using device = await TestDevice.add("loop", "-f", file, ...words);
    expect((await device.report()).sizeBytes).toBe(4 * MIB);
    await runOk("cmp", "-n", String(4 * MIB), "-i", `0:${3 * MIB}`, device.path, file);
    await runOk("dd", "if=/dev/zero", `of=${device.path}`, "bs=1M", "count=4", "oflag=direct");
    await runOk("blockdev", "--flushbufs", device.path);
  }
  await runOk("cmp", "-n", String(3 * MIB), file, `${file}.before`);
  await runOk("cmp", "-n", String(4 * MIB), "-i", `${3 * MIB}:0`, file, "/dev/zero");
  await runOk("cmp", "-i", String(7 * MIB), file, `${file}.before`);
  await runOk("rm", file, `${file}.before`);
});

test("--read-only cannot be written, by anybody", async () => {
  const file = scratch.file("locked", MIB);
  await runOk("chmod", "444", file);
  const before = statSync(file).mtimeMs;
  await using device = await TestDevice.add("loop", "-f", file, "--read-only");
  expect((await runOk("blockdev", "--getro", device.path)).trim()).toBe("1");
  const dd = await run(["dd", "if=/dev/zero", `of=${device.path}`, "count=1", "oflag=direct"]);
  expect(dd.exitCode).toBe(1);
  await runOk("cmp", device.path, file);
  expect(statSync(file).mtimeMs).toBe(before);
});

test("discards punch the file, zeroes that must keep their space keep it, --no-discard has neither", async () => {
  const file = scratch.file("disk", 8 * MIB);
  const fill = (path: string) =>
    runOk("dd", "if=/dev/urandom", `of=${path}`, "bs=1M", "count=8", "oflag=direct");
  {
    await using device = await TestDevice.add("loop", "-f", file);
    await fill(device.path);
    expect(used(file)).toBeGreaterThanOrEqual(8 * MIB);
    await runOk("blkdiscard", "-z", device.path);
    await runOk("cmp", "-n", String(8 * MIB), file, "/dev/zero");
    expect(used(file)).toBeGreaterThanOrEqual(8 * MIB);
    await fill(device.path);
    await runOk("blkdiscard", "-o", "1M", "-l", "4M", device.path);
    expect(used(file)).toBeLessThanOrEqual(4 * MIB + 65536);
    expect(statSync(file).size).toBe(8 * MIB);
    await runOk("cmp", device.path, file);
  }
  await using device = await TestDevice.add("loop", "-f", file, "--no-discard");
  expect((await run(["blkdiscard", device.path])).stderr).toContain("not supported");
  await fill(device.path);
  await runOk("blkdiscard", "-z", device.path);
  await runOk("cmp", "-n", String(8 * MIB), file, "/dev/zero");
  expect(used(file)).toBeGreaterThanOrEqual(8 * MIB);
});

/** Flushes that a disk has been asked for. Source: Documentation/block/stat.rst. */
function flushes(disk: number): number {
  const text = readFileSync(`/sys/dev/block/${deviceNumbers({ rdev: disk })}/stat`, "utf8");
  return Number(text.trim().split(/\s+/)[15]);
}

test("O_DSYNC and fsync reach the disk below, and the data is there after kill -9 without recovery", async () => {
  await using disk = await LoopDevice.attach(MIB);
  const file = scratch.file("durable", MIB);
  const data = "/tmp/data";
  for (const [backing, how, ...options] of [
    [disk.path, "oflag=direct,dsync"],
    [disk.path, "conv=fsync"],
    [file, "oflag=direct,dsync"],
    [file, "oflag=dsync", "--buffered-io"],
    [file, "conv=fsync"],
  ] as const) {
    const { rdev, dev } = statSync(backing);
    const below = backing === file ? dev : rdev;
    const words = ["-f", backing, "--recovery=none", ...options];
    await using device = await TestDevice.add("loop", ...words);
    await runOk("dd", "if=/dev/urandom", `of=${data}`, "bs=64k", "count=4");
    const before = flushes(below);
    await runOk("dd", `if=${data}`, `of=${device.path}`, "bs=64k", how);
    expect(flushes(below)).toBeGreaterThan(before);
    await device.killServer();
    await runOk("cmp", "-n", String(256 * 1024), data, backing);
  }
});
