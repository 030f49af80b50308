// wait: returns when a disk has the state that is asked for, and says what it has when it has not.

import { afterEach, expect, test } from "bun:test";

import { killNow, startUblk } from "../support/crash.ts";
import { leftovers, TestDevice, ublk, ublkOk } from "../support/program.ts";

afterEach(() => expect(leftovers()).toEqual([]));

test("each state is waited for until it comes", async () => {
  await using device = await TestDevice.add("null", "-n0");
  expect(await ublk("wait", "0")).toMatchObject({ exitCode: 0, stdout: "", stderr: "" });
  await using quiesced = startUblk("wait", "0", "--state=quiesced", "--timeout=60s");
  killNow(0);
  expect((await quiesced.ended).exitCode).toBe(0);
  await using live = startUblk("wait", "0", "--state=live", "--timeout=60s", "--json");
  await ublkOk("recover", "0", "--quiet");
  const { exitCode, stdout } = await live.ended;
  expect(exitCode).toBe(0);
  expect(JSON.parse(stdout)).toEqual({ id: 0, state: "live" });
  await using dead = startUblk("wait", "0", "--state=dead", "--timeout=60s");
  await ublkOk("stop", "0");
  expect((await dead.ended).exitCode).toBe(0);
  await using gone = startUblk("wait", device.path, "--state=gone", "--timeout=60s");
  await ublkOk("del", "0");
  expect((await gone.ended).exitCode).toBe(0);
});

test("a killed server's disk is not live, whatever the kernel still says", async () => {
  await using device = await TestDevice.add("null", "-n0");
  killNow(device.id);
  const { exitCode, stderr } = await ublk("wait", "0", "--state=live", "--timeout=50ms");
  expect(stderr).toContain("and not live, after 0.05 s");
  expect(exitCode).toBe(124);
});

test("the deadline names the state; a device that is not there is 3, or gone", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const late = await ublk("wait", String(device.id), "--state=quiesced", "--timeout=100ms");
  expect(late.stderr).toContain("Device 0 is LIVE, and not quiesced, after 0.1 s");
  expect(late.exitCode).toBe(124);
  expect((await ublk("wait", "9", "--state=live")).exitCode).toBe(3);
  expect((await ublk("wait", "9", "--state=gone")).exitCode).toBe(0);
  await using waiting = startUblk("wait", "0", "--state=quiesced", "--timeout=60s");
  await ublkOk("del", "0");
  expect((await waiting.ended).exitCode).toBe(3);
});
