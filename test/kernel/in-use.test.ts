// A file belongs to one device: a second one over it is refused, whatever name it goes by.

import { afterAll, afterEach, expect, test } from "bun:test";
import { linkSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { leftovers, runOk, TestDevice, ublk, ublkOk } from "../support/program.ts";

const folder = mkdtempSync(join(tmpdir(), "in-use-"));
const file = join(folder, "disk");
writeFileSync(file, "");
truncateSync(file, 16 * 1024 ** 2);
symlinkSync(file, join(folder, "symlink"));
linkSync(file, join(folder, "hardlink"));

afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => expect(leftovers()).toEqual([]));

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
