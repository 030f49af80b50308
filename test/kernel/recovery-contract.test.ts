// The kernel's contract of a recovery, clause by clause: the commands are sent by the test, so that it
// sees what is between them. Where 6.12 differs from 7.3, both are said.

import { afterEach, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";

import { ERRNO } from "../../src/ffi/errno.ts";
import { ByHand } from "../support/by-hand.ts";
import { daemonPids, ddWords, killNow, readBlock, start, untilWaiting } from "../support/crash.ts";
import { holdCharDevice } from "../support/hold.ts";
import { hasFeature, leftovers, run, TestDevice, ublk, ublkOk, until } from "../support/program.ts";
import { ODD_PROGRAM } from "../support/torture/build.ts";
import { type Death, DEATH_FILE } from "../support/torture/program/death.ts";

const isNew = await hasFeature("UPDATE_SIZE");

afterEach(() => expect(leftovers()).toEqual([]));

const WORDS = ["null", "-n0", "-q2", "-d4"];

/** Kills the disk's server; a read that waits for the next one. */
async function readOfDead(device: TestDevice) {
  await device.killServer();
  const waiting = start(...ddWords(device.path, 0));
  await untilWaiting(waiting, device.path);
  return waiting;
}

test("START refuses while the device is live or its char device is held", async () => {
  await using device = await TestDevice.add("null", "-n0");
  using hand = await ByHand.open(0);
  expect(await hand.start()).toBe(ERRNO.EBUSY);
  await using holder = await holdCharDevice(await device.serverPid(), 0);
  killNow(0);
  await until("the server is gone", () => daemonPids().length === 0);
  expect(await hand.start()).toBe(ERRNO.EBUSY);
  await holder.release();
  await hand.untilStarted();
  await ublkOk("recover", "0");
  await readBlock(device.path);
});

test("START a second time: 7.3 grants it, 6.12 answers EINVAL; recover works all the same", async () => {
  await using device = await TestDevice.add(...WORDS);
  await using waiting = await readOfDead(device);
  using hand = await ByHand.open(0);
  await hand.untilStarted();
  expect(await hand.start()).toBe(isNew ? 0 : ERRNO.EINVAL);
  expect((await device.report()).state).toBe("QUIESCED");
  expect(await ublkOk("recover", "0")).toContain("restarts 1\n");
  expect((await waiting.ended).exitCode).toBe(0);
});

test("END waits for all queues, records the new pid, releases held I/O, LIVE", async () => {
  await using device = await TestDevice.add(...WORDS);
  await using waiting = await readOfDead(device);
  using hand = await ByHand.open(0);
  await hand.untilStarted();
  await using server = await hand.server();
  await server.fetch(0);
  expect(await hand.end(server.pid, { timeoutMs: 300 })).toBe(ERRNO.ETIMEDOUT);
  const abort = new AbortController();
  const interrupted = hand.end(server.pid, { signal: abort.signal });
  await Bun.sleep(100);
  abort.abort();
  expect(await interrupted).toBe(ERRNO.EINTR);
  expect((await device.report()).state).toBe("QUIESCED");
  expect(waiting.running).toBeTrue();
  await server.fetch(1);
  // Not any pid: 7.3 knows who has the char device open.
  if (isNew) expect(await hand.end(process.pid)).toBe(ERRNO.EINVAL);
  expect(await hand.end(server.pid)).toBe(0);
  expect(await device.report()).toMatchObject({ state: "LIVE", serverPid: server.pid });
  expect((await waiting.ended).exitCode).toBe(0);
  await readBlock(device.path, 1);
});

test.each(["nobody has fetched", "one queue of two is fetched"])(
  "STOP works between START and END: %s",
  async (when) => {
    await using device = await TestDevice.add(...WORDS);
    await using waiting = await readOfDead(device);
    using hand = await ByHand.open(0);
    await hand.untilStarted();
    const isFetching = when.startsWith("one");
    await using server = isFetching ? await hand.server() : undefined;
    await server?.fetch(0);
    await ublkOk("stop", "0", "--force");
    expect((await waiting.ended).exitCode).toBe(1);
    expect((await device.report()).state).toBe("DEAD");
    expect(existsSync(device.path)).toBeFalse();
    // Its tags are given back to it.
    if (server) expect(await server.exited).toBe(0);
    expect((await ublk("recover", "0")).stderr).toMatch(/DEAD.*stopped/);
    await ublkOk("del", "0");
  },
);

test("a server that dies half-way through fetching: 7.3 forgives it, on 6.12 it is final: 6, del", async () => {
  await using device = await TestDevice.add(...WORDS);
  await using waiting = await readOfDead(device);
  const death: Death = { who: "daemon", step: "HALF_FETCH", when: "after" };
  writeFileSync(DEATH_FILE, JSON.stringify(death));
  expect((await run([ODD_PROGRAM, "recover", "0"])).stderr).toContain("died while it was starting");
  expect(existsSync(DEATH_FILE)).toBeFalse();
  await until("nobody is at it", () => daemonPids().length === 0);
  expect(waiting.running).toBeTrue();
  const { exitCode, stdout, stderr } = await ublk("recover", "0");
  if (isNew) {
    expect(exitCode, stderr).toBe(0);
    expect(stdout).toContain("restarts 1\n");
    expect((await waiting.ended).exitCode).toBe(0);
    return;
  }
  expect(stderr).toContain(
    "cannot be recovered any more: an earlier recover died while it fetched",
  );
  expect(stderr).toContain("ublk-bun del 0 --force");
  expect(exitCode).toBe(6);
  expect(await device.report()).toMatchObject({ state: "QUIESCED", restarts: 0 });
  expect(waiting.running).toBeTrue();
  await ublkOk("del", "0", "--force");
  expect((await waiting.ended).exitCode).toBe(1);
});
