// A file belongs to one device: a second one over it is refused, whatever name it goes by.

import { afterAll, afterEach, expect, test } from "bun:test";
import {
  existsSync,
  linkSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { leftovers, runOk, TestDevice, ublk, ublkOk, until } from "../support/program.ts";

const MIB = 1024 ** 2;
const folder = mkdtempSync(join(tmpdir(), "in-use-"));
const file = join(folder, "disk");
writeFileSync(file, "");
truncateSync(file, 16 * MIB);
symlinkSync(file, join(folder, "symlink"));
linkSync(file, join(folder, "hardlink"));

afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => expect(leftovers()).toEqual([]));

/** Two partitions: from 1 MiB to 5 MiB, from 8 MiB to 12 MiB. */
function masterBootRecord(): Uint8Array {
  const bytes = new Uint8Array(512);
  const view = new DataView(bytes.buffer);
  for (const [n, start] of [MIB, 8 * MIB].entries()) {
    const at = 446 + 16 * n;
    bytes[at + 4] = 0x83;
    view.setUint32(at + 8, start / 512, true);
    view.setUint32(at + 12, (4 * MIB) / 512, true);
  }
  view.setUint16(510, 0xaa55, true);
  return bytes;
}

test("refused under every name of the file, with 5, and nothing is created", async () => {
  await using device = await TestDevice.add("loop", "-n0", "-f", file);
  for (const name of ["disk", "symlink", "hardlink"]) {
    const path = join(folder, name);
    const { exitCode, stderr } = await ublk("add", "loop", "-n1", "-f", path);
    expect(stderr).toContain(`"${path}" is in use by device 0 (/dev/ublkb0, loop)`);
    expect(stderr).toContain("--force");
    expect(exitCode).toBe(5);
    expect(JSON.parse(await ublkOk("list", "--json"))).toHaveLength(1);
  }
  // A successor of the same device has the same claim.
  await device.killServer();
  await ublkOk("recover", "0");
  expect(await device.report()).toMatchObject({ state: "LIVE", restarts: 1 });
  // A stopped device may be started again: its file is still its own.
  await ublkOk("stop", "0");
  expect((await ublk("add", "loop", "-n1", "-f", file)).exitCode).toBe(5);
});

test("--force goes ahead and warns; when the device is gone, the file is free", async () => {
  await using device = await TestDevice.add("loop", "-n0", "-f", file);
  {
    const { exitCode, stderr } = await ublk("add", "loop", "-n1", "-f", file, "--force");
    await using second = new TestDevice(1);
    expect(exitCode).toBe(0);
    expect(stderr).toContain(`warning: "${file}" is in use by device 0`);
    expect(await second.report()).toMatchObject({ state: "LIVE" });
  }
  await ublkOk("del", String(device.id));
  await using next = await TestDevice.add("loop", "-n1", "-f", file);
  expect(next.id).toBe(1);
});

test("a block device is the same under every node that leads to it", async () => {
  await using below = await TestDevice.add("null", "-n0", "--size=16MiB");
  await using device = await TestDevice.add("loop", "-n1", "-f", below.path);
  const { diskNumber } = JSON.parse(await ublkOk("info", "0", "--json"));
  const alias = join(folder, "alias");
  await runOk("mknod", alias, "b", ...diskNumber.split(":"));
  const { exitCode, stderr } = await ublk("add", "loop", "-n2", "-f", alias);
  expect(stderr).toContain(`"${alias}" is in use by device ${device.id}`);
  expect(exitCode).toBe(5);
});

test("a partition and its disk are not two places; two partitions are", async () => {
  writeFileSync(file, masterBootRecord());
  truncateSync(file, 16 * MIB);
  await using below = await TestDevice.add("loop", "-n0", "-f", file);
  const partition = (n: number) => join(folder, `partition${n}`);
  for (const n of [1, 2]) {
    const numbers = `/sys/block/ublkb0/ublkb0p${n}/dev`;
    await until("the partition is there", () => existsSync(numbers));
    const [major = "", minor = ""] = readFileSync(numbers, "utf8").trim().split(":");
    await runOk("mknod", partition(n), "b", major, minor);
  }
  {
    await using device = await TestDevice.add("loop", "-n1", "-f", partition(1));
    expect((await device.report()).sizeBytes).toBe(4 * MIB);
    const { exitCode, stderr } = await ublk("add", "loop", "-n2", "-f", below.path);
    expect(stderr).toContain(`"${below.path}" is in use by device 1`);
    expect(exitCode).toBe(5);
    await using other = await TestDevice.add("loop", "-n2", "-f", partition(2));
    await runOk("dd", "if=/dev/urandom", `of=${other.path}`, "bs=1M", "count=4", "oflag=direct");
    await runOk("cmp", "-i", `0:${8 * MIB}`, "-n", String(4 * MIB), other.path, below.path);
  }
  const members = ["-f", below.path, "-f", partition(1)];
  const striped = await ublk("add", "stripe", "-n1", ...members);
  expect(striped.stderr).toContain(`${below.path} and ${partition(1)} are the same`);
  expect(striped.exitCode).toBe(2);
  await using whole = await TestDevice.add("loop", "-n1", "-f", below.path);
  const { exitCode, stderr } = await ublk("add", "loop", "-n2", "-f", partition(1));
  expect(stderr).toContain(`in use by device ${whole.id}`);
  expect(exitCode).toBe(5);
});

test("of three adds over one file at once, one wins", async () => {
  const outcomes = await Promise.all(
    [1, 2, 3].map((n) => ublk("add", "loop", `-n${n}`, "-f", file)),
  );
  const devices = [1, 2, 3].map((n) => new TestDevice(n));
  try {
    const exitCodes = outcomes.map(({ exitCode }) => exitCode).toSorted((a, b) => a - b);
    expect(exitCodes).toEqual([0, 5, 5]);
    expect(JSON.parse(await ublkOk("list", "--json"))).toHaveLength(1);
  } finally {
    for (const device of devices) await device[Symbol.asyncDispose]();
  }
});
