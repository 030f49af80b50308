// recover --target on a real kernel: a lost record, a damaged one, another tool's device, another target.

import { afterEach, expect, test } from "bun:test";
import { existsSync, rmSync, writeFileSync } from "node:fs";

import { ddWords, start, untilWaiting } from "../support/crash.ts";
import { buildKublk } from "../support/peer.ts";
import { leftovers, run, runOk, TestDevice, ublk, ublkOk } from "../support/program.ts";
import { ODD_PROGRAM } from "../support/torture/build.ts";
import { type Death, DEATH_FILE } from "../support/torture/program/death.ts";

const kublk = await buildKublk();
const RECORD = "/run/ublk-bun/0.json";

afterEach(() => expect(leftovers()).toEqual([]));

test("without a usable record the device is served again by what is said", async () => {
  await using device = await TestDevice.add(..."null -n0 --size=1GiB --recovery=queue".split(" "));
  await device.killServer();
  const damages = [() => rmSync(RECORD), () => writeFileSync(RECORD, "{")];
  for (const damage of damages) {
    damage();
    const { exitCode, stderr } = await ublk("recover", "0");
    expect(stderr).toContain("ublk-bun recover 0 --target TARGET");
    expect(exitCode).toBe(6);
    await ublkOk("recover", "0", "--target", "null");
    expect(await device.report()).toMatchObject({
      state: "LIVE",
      ours: true,
      target: "null",
      spec: { sizeBytes: 1024 ** 3 },
      recovery: "queue",
      mode: "copy",
      restarts: 1,
    });
    await device.killServer();
  }
  await ublkOk("recover", "0");
  await runOk("dd", "if=/dev/ublkb0", "of=/dev/null", "bs=4k", "count=1", "iflag=direct");
});

test("another target takes over, and is kept once it serves; a refused one is not", async () => {
  await using device = await TestDevice.add(..."null -n0 --size=1GiB".split(" "));
  await device.killServer();
  const smaller = await ublk("recover", "0", "--target=null", "--size=512MiB");
  expect(smaller.stderr).toContain("has changed: its size in sectors");
  expect(smaller.exitCode).toBe(1);
  expect(await device.report()).toMatchObject({ target: "null", spec: { sizeBytes: 1024 ** 3 } });
  const words = "recover 0 --target fault_inject --fault=eio --fault-at=4096 --json";
  expect(JSON.parse(await ublkOk(...words.split(" ")))).toMatchObject({
    target: "fault_inject",
    restarts: 1,
    spec: { sizeBytes: 1024 ** 3, fault: "eio", faultAtBytes: 4096 },
  });
  const read = [
    "dd",
    "if=/dev/ublkb0",
    "of=/dev/null",
    "bs=4k",
    "skip=1",
    "count=1",
    "iflag=direct",
  ];
  expect((await run(read)).exitCode).toBe(1);
  await device.killServer();
  await ublkOk("recover", "0");
  expect((await run(read)).exitCode).toBe(1);
});

test("a new target is in the record before its server can be given a request", async () => {
  await using device = await TestDevice.add(..."null -n0 --size=1GiB".split(" "));
  await device.killServer();
  await using waiting = start(...ddWords(device.path, 3));
  await untilWaiting(waiting, device.path);
  // Killed before it fetches; killed by the first request.
  const death: Death = { who: "daemon", step: "FETCH", when: "before" };
  writeFileSync(DEATH_FILE, JSON.stringify(death));
  const words = "recover 0 --target=fault_inject --fault=exit --fault-at=12288".split(" ");
  const killed = await run([ODD_PROGRAM, ...words]);
  expect({ died: !existsSync(DEATH_FILE), exitCode: killed.exitCode }).toEqual({
    died: true,
    exitCode: 1,
  });
  expect((await device.report()).target).toBe("fault_inject");
  expect((await ublk("recover", "0")).exitCode).toBe(1);
  await device.untilState("QUIESCED");
  expect((await device.report()).target).toBe("fault_inject");
  await ublkOk("recover", "0", "--target=null");
  expect((await waiting.ended).exitCode).toBe(0);
});

test("a device that is not there, or stopped, is told before anything else", async () => {
  for (const target of ["null", "mem"]) {
    const { exitCode } = await ublk("recover", "7", "--target", target, "--size=1GiB");
    expect(exitCode).toBe(3);
  }
  expect((await ublk("recover", "7", "--target", "null")).exitCode).toBe(3);
  await using device = await TestDevice.add("null", "-n0");
  await ublkOk("stop", "0");
  const { exitCode, stderr } = await ublk("recover", "0", "--target", "null");
  expect(stderr).toContain("Device 0 is DEAD");
  expect(exitCode).toBe(6);
  expect(device.id).toBe(0);
});

test("another tool's device needs --force", async () => {
  await runOk(kublk, ..."add -t null -n 0 -q 1 -r 1".split(" "));
  await using device = new TestDevice(0);
  await device.killServer();
  await device.untilState("QUIESCED");
  const { exitCode, stderr } = await ublk("recover", "0", "--target=null");
  expect(stderr).toContain("Device 0 is not ours: another tool made it");
  expect(stderr).toContain("--force");
  expect(exitCode).toBe(6);
  await ublkOk("recover", "0", "--target=null", "--force");
  expect(await device.report()).toMatchObject({ state: "LIVE", ours: true, recovery: "queue" });
});
