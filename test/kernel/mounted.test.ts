// A mounted disk: stop, del, a shrinking update-size and SIGTERM are refused, and its files stay usable.

import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import {
  hasFeature,
  leftovers,
  runOk,
  TestDevice,
  ublk,
  ublkOk,
  until,
} from "../support/program.ts";

const MIB = 1024 ** 2;
const folder = mkdtempSync(join(tmpdir(), "mounted-"));
const file = join(folder, "disk");
const mountPoint = join(folder, "mnt");
mkdirSync(mountPoint);

afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => expect(leftovers()).toEqual([]));

/** ext4 on a new disk of 32 MiB, mounted. */
async function mounted() {
  writeFileSync(file, "");
  truncateSync(file, 32 * MIB);
  const device = await TestDevice.add("loop", "-n0", "-f", file);
  await runOk("mkfs.ext4", "-q", device.path);
  await runOk("mount", device.path, mountPoint);
  writeFileSync(join(mountPoint, "before"), "written before");
  return device;
}

test("every way to take a mounted disk away is refused, naming the mount point", async () => {
  await using device = await mounted();
  const words = ["stop 0", "del 0", "del -a"];
  if (await hasFeature("UPDATE_SIZE")) words.push("update-size 0 16MiB");
  for (const line of words) {
    const { exitCode, stderr } = await ublk(...line.split(" "));
    expect(stderr, line).toContain(`/dev/ublkb0 is in use: mounted on ${mountPoint}`);
    expect(exitCode, line).toBe(5);
  }
  process.kill(await device.serverPid(), "SIGTERM");
  const log = () => readFileSync("/run/ublk-bun/0.log", "utf8");
  await until("the daemon says why it stays", () => log().includes(`mounted on ${mountPoint}`));
  expect(log()).toContain("goes on serving");

  writeFileSync(join(mountPoint, "after"), "written after");
  await runOk("sync", "-f", mountPoint);
  await runOk("umount", mountPoint);
  await runOk("e2fsck", "-fn", device.path);
  await ublkOk("stop", "0");
  await ublkOk("del", "0");
});

test("an unmounted disk ends with its daemon's SIGTERM", async () => {
  await using device = await mounted();
  await runOk("umount", mountPoint);
  process.kill(await device.serverPid(), "SIGTERM");
  await until("everything is gone", () => leftovers().length === 0);
});
