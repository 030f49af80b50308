// A second holder of /dev/ublkc0, such as a child that inherited it, keeps the kernel from giving the
// device to a new server: recover waits, says who it is, and gives up at its deadline.

import { afterEach, expect, test } from "bun:test";

import { daemonPids, killNow, readBlock, recordText, startUblk } from "../support/crash.ts";
import { holdCharDevice } from "../support/hold.ts";
import { leftovers, TestDevice, ublk, until } from "../support/program.ts";

afterEach(() => expect(leftovers()).toEqual([]));

test("recover waits for whoever holds the device, names it, ends with 5, works afterwards", async () => {
  await using device = await TestDevice.add("null", "-n0", "-q2");
  await using holder = await holdCharDevice(await device.serverPid(), device.id);
  const record = recordText(0);
  killNow(0);
  const held = new RegExp(`/dev/ublkc0 is held by pid ${holder.pid} \\(bun[.\\w]*\\)`);
  const waited = await ublk("recover", "0", "--timeout=3s");
  expect(waited).toMatchObject({ exitCode: 5, stdout: "" });
  expect(waited.milliseconds).toBeGreaterThan(3000);
  const [note, error] = waited.stderr.split("\n");
  expect(note).toMatch(/waiting/);
  expect(note).toMatch(held);
  expect(error).toMatch(/cannot be recovered yet/);
  expect(error).toMatch(held);
  // Nobody serves it, and nothing has been changed: 7.3 calls such a device LIVE, 6.12 QUIESCED.
  expect(await device.report()).toMatchObject({ serverPid: null, restarts: 0 });
  expect(recordText(0)).toBe(record);

  await using recover = startUblk("recover", "0");
  await until("the note", () => held.test(recover.stderr()));
  await holder.release();
  const { exitCode, stdout } = await recover.ended;
  expect(exitCode).toBe(0);
  expect(stdout).toContain("restarts 1\n");
  await readBlock(device.path);
});

test("what a waiting recover leaves when it is interrupted, or its launcher killed", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await using holder = await holdCharDevice(await device.serverPid(), device.id);
  killNow(0);
  await using interrupted = startUblk("recover", "0");
  await until("the note", () => interrupted.stderr().includes("waiting"));
  interrupted.kill("SIGINT");
  expect(await interrupted.ended).toMatchObject({ exitCode: 130, stdout: "" });

  // The daemon whose launcher is killed goes on waiting, and is the one who changes the device.
  await using killed = startUblk("recover", "0");
  await until("the note", () => killed.stderr().includes("waiting"));
  killed.kill("SIGKILL");
  await killed.ended;
  const [daemon] = daemonPids();
  const second = await ublk("recover", "0");
  expect(second).toMatchObject({ exitCode: 5, stdout: "" });
  expect(second.stderr).toContain(`being changed by pid ${daemon} (recover)`);
  await holder.release();
  await until("LIVE", async () => (await device.report()).restarts === 1);
  await readBlock(device.path);
});
