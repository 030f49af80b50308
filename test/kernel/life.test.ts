// A device's ordinary life on a real kernel.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";

import { leftovers, TestDevice, ublk, ublkOk } from "../support/program.ts";

test("add returns when the disk can be read, and list agrees with the kernel", async () => {
  {
    await using device = await TestDevice.add("--target", "null", "-n", "0", "-q", "2");
    const bytes = await Bun.file(device.path).slice(0, 4096).arrayBuffer();
    expect(bytes.byteLength).toBe(4096);
    const report = await device.report();
    expect(report.state).toBe("LIVE");
    expect(report.sizeBytes).toBe(Number(readFileSync("/sys/block/ublkb0/size", "utf8")) * 512);
  }
  expect(leftovers()).toEqual([]);
});

test("a device that does not exist is exit 3", async () => {
  const { exitCode, stderr } = await ublk("list", "7");
  expect(stderr).toContain("no such device");
  expect(exitCode).toBe(3);
  expect(await ublkOk("list")).toBe("");
});
