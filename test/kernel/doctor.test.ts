// doctor: finds what is wrong with the devices of a host, and says what to do.

import { afterEach, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";

import { parseRecord, recordText as textOf } from "../../src/device/record-text.ts";
import {
  daemonPids,
  ddWords,
  killNow,
  recordPath,
  recordText,
  start,
  untilWaiting,
} from "../support/crash.ts";
import { holdCharDevice } from "../support/hold.ts";
import { leftovers, program, run, TestDevice, ublk, ublkOk, until } from "../support/program.ts";

afterEach(() => expect(leftovers()).toEqual([]));

interface Found {
  readonly check: string;
  readonly what: string;
  readonly remedy: string;
  readonly fixed: boolean;
}

async function findings(...words: string[]): Promise<{ exitCode: number; found: Found[] }> {
  const { exitCode, stdout } = await ublk("doctor", "--json", ...words);
  return { exitCode, found: JSON.parse(stdout) as Found[] };
}

test("a healthy host, with and without a served disk: nothing is wrong", async () => {
  expect(await ublkOk("doctor")).toBe("nothing is wrong\n");
  await using device = await TestDevice.add("null", "-n0");
  expect(await ublkOk("doctor")).toBe("nothing is wrong\n");
  expect(device.id).toBe(0);
});

test("a disk without a server is named with the command that brings it back, which works", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await device.killServer();
  await device.untilState("QUIESCED");
  const { exitCode, found } = await findings("--fix");
  expect(exitCode).toBe(1);
  expect(found).toEqual([
    {
      check: "orphaned",
      what: expect.stringContaining("Device 0 is QUIESCED and has no server"),
      remedy: "run: ublk-bun recover 0",
      fixed: false,
    },
  ]);
  await ublkOk("recover", "0");
  expect(await ublkOk("doctor")).toBe("nothing is wrong\n");
});

test("who uses a disk without a server is named; where its record is lost, how to give it anew", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await device.killServer();
  await device.untilState("QUIESCED");
  await using user = start(...ddWords(device.path, 9));
  await untilWaiting(user, device.path);
  const before = recordText(0);
  rmSync(recordPath(0));
  const { found } = await findings();
  expect(found.map(({ check }) => check)).toEqual(["orphaned"]);
  expect(found[0]!.what).toContain(`open in pid ${user.pid} (dd)`);
  expect(found[0]!.remedy).toContain("ublk-bun recover 0 --target TARGET");
  writeFileSync(recordPath(0), before, { mode: 0o600 });
  await ublkOk("recover", "0");
  expect((await user.ended).exitCode).toBe(0);
});

test("a device whose disk is gone is named, and so is a run folder that others may write in", async () => {
  await using device = await TestDevice.add("null", "-n0", "--recovery=none");
  killNow(0);
  await device.untilState("DEAD");
  const dead = await findings("--fix");
  expect(dead.found).toMatchObject([
    { check: "dead", remedy: "run: ublk-bun del 0", fixed: false },
  ]);
  await ublkOk("del", "0");
  const open = mkdtempSync("/tmp/open-");
  chmodSync(open, 0o777);
  const unsafe = await findings("--run-dir", open);
  expect(unsafe.found).toMatchObject([{ check: "run-folder" }]);
  expect(unsafe.found[0]!.what).toContain("others may write in it");
});

test("a device that cannot get a server is named with who holds it", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await using holder = await holdCharDevice(await device.serverPid(), 0);
  killNow(0);
  await until("the server is gone", () => daemonPids().length === 0);
  const { exitCode, found } = await findings();
  expect(exitCode).toBe(1);
  expect(found).toEqual([
    {
      check: "held",
      what: expect.stringContaining(`/dev/ublkc0 is held by pid ${holder.pid}`),
      remedy: "end that process, then run: ublk-bun recover 0",
      fixed: false,
    },
  ]);
});

/** Which checks find something, and their remedies, for a doctor that is started like this. */
async function foundBy(script: string): Promise<Record<string, string>> {
  const { exitCode, stdout, stderr } = await run([
    "sh",
    "-c",
    `${script} ${program} doctor --json`,
  ]);
  expect(exitCode, stderr).toBe(1);
  const found = JSON.parse(stdout) as Found[];
  return Object.fromEntries(found.map(({ check, remedy }) => [check, remedy]));
}

test("what a host, or a container, lacks is found, each with its remedy", async () => {
  expect(await foundBy("exec setarch --uname-2.6")).toEqual({
    kernel: "Linux 6.1 or later is needed",
  });
  const less = "exec setpriv --bounding-set=-sys_admin,-sys_resource,-ipc_lock";
  expect(await foundBy(`ulimit -l 64; ${less}`)).toMatchObject({
    memlock: "raise the limit: ulimit -l unlimited",
    capabilities: "run it as root, outside of containers that take capabilities away",
  });
  expect(await foundBy("exec unshare -m sh -c 'mount --bind /proc /dev && exec \"$@\"' -")).toEqual(
    {
      udev: "run: mount -t devtmpfs devtmpfs /dev",
      driver: "run: modprobe ublk_drv (Linux 6.1 or later, CONFIG_BLK_DEV_UBLK)",
    },
  );
  const sysctl = "/proc/sys/kernel/io_uring_disabled";
  const before = readFileSync(sysctl, "utf8");
  try {
    // 1 is no hindrance to root.
    writeFileSync(sysctl, "1");
    expect(await foundBy("exec")).toEqual({ io_uring: "run: sysctl kernel.io_uring_disabled=0" });
  } finally {
    writeFileSync(sysctl, before);
  }
});

test("records of another boot and orphaned locks are found, and removed by --fix alone", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const old = { ...parseRecord(recordText(0), 0), id: 5, bootId: "another-boot" };
  writeFileSync(recordPath(5), textOf(old), { mode: 0o600 });
  writeFileSync("/run/ublk-bun/6.lock", "99999999 add");
  writeFileSync("/run/ublk-bun/7.json.99999999.tmp", "{");
  const checks = ({ found }: { found: Found[] }) => found.map(({ check }) => check);
  const before = await findings();
  expect(before.exitCode).toBe(1);
  expect(checks(before)).toEqual(["record", "leftover", "leftover"]);
  expect(existsSync(recordPath(5))).toBe(true);
  const fixed = await findings("--fix");
  expect(fixed.exitCode).toBe(0);
  expect(fixed.found.every((each) => each.fixed)).toBe(true);
  expect(await ublkOk("doctor")).toBe("nothing is wrong\n");
  expect(JSON.parse(readFileSync(recordPath(0), "utf8")).id).toBe(device.id);
});
