// A target's fence: called first of all in a recovery, and what it does not let pass changes nothing.

import { afterEach, expect, test } from "bun:test";
import { readFileSync, rmSync, writeFileSync } from "node:fs";

import { killNow, readBlock, recordText, start } from "../support/crash.ts";
import { holdCharDevice } from "../support/hold.ts";
import {
  hasFeature,
  leftovers,
  run,
  runOk,
  serverPids,
  TestDevice,
  until,
} from "../support/program.ts";
import { ODD_PROGRAM } from "../support/torture/build.ts";
import { endWatch, startWatchOf, untilServedAnew } from "../support/watching.ts";

const CALLS = "/tmp/fence-calls";

afterEach(async () => {
  for (const name of ["", ".broken", ".stuck"]) rmSync(`${CALLS}${name}`, { force: true });
  expect(leftovers()).toEqual([]);
});

async function add(): Promise<TestDevice> {
  await runOk(ODD_PROGRAM, "add", "fenced", "-n0", `--calls=${CALLS}`);
  return new TestDevice(0);
}

/** What has been called so far, in order. */
const calls = () => readFileSync(CALLS, "utf8").trim().split("\n");

test("called before open in a recovery; in add and in an upgrade not at all", async () => {
  await using device = await add();
  await device.killServer();
  await runOk(ODD_PROGRAM, "recover", "0");
  expect(calls()).toEqual(["open new", "fence", "open"]);
  await runOk(ODD_PROGRAM, "upgrade", "0");
  expect(calls()).toEqual(["open new", "fence", "open", "open"]);
  await readBlock(device.path);
});

test("not called while the old server's device is held: its requests may not be on their way yet", async () => {
  // An older kernel sees a server go by its threads, whoever has its descriptors.
  if (!(await hasFeature("QUIESCE"))) return;
  await using device = await add();
  await using holder = await holdCharDevice(await device.serverPid(), 0);
  killNow(0);
  await using recover = start(ODD_PROGRAM, "recover", "0");
  await until("it says who", () =>
    recover.stderr().includes(`waiting: /dev/ublkc0 is held by pid ${holder.pid}`),
  );
  expect(calls()).toEqual(["open new"]);
  await holder.release();
  expect((await recover.ended).exitCode).toBe(0);
  expect(calls()).toEqual(["open new", "fence", "open"]);
});

test("one that fails, does not end or is interrupted: all is as it was, and a later recover works", async () => {
  await using device = await add();
  await device.killServer();
  const record = recordText(0);
  const asItWas = async () => {
    expect(await device.report()).toMatchObject({ state: "QUIESCED", serverPid: null });
    expect(recordText(0)).toBe(record);
    expect(calls()).not.toContain("open");
  };
  writeFileSync(`${CALLS}.broken`, "");
  const broken = await run([ODD_PROGRAM, "recover", "0"]);
  expect(broken.stderr).toContain("fence of device 0's target failed: the backing does not answer");
  expect(broken.stderr).toContain("nothing was changed");
  expect(broken.exitCode).toBe(1);
  await asItWas();
  rmSync(`${CALLS}.broken`);
  writeFileSync(`${CALLS}.stuck`, "");
  const late = await run([ODD_PROGRAM, "recover", "0", "--timeout=1s"]);
  expect(late.stderr).toContain("fence of device 0's target has not ended after 1 s");
  expect(late.exitCode).toBe(124);
  await asItWas();
  const before = calls().length;
  await using interrupted = start(ODD_PROGRAM, "recover", "0");
  await until("its fence", () => calls().length > before);
  interrupted.kill("SIGINT");
  expect((await interrupted.ended).exitCode).toBe(130);
  await asItWas();
  rmSync(`${CALLS}.stuck`);
  expect(await runOk(ODD_PROGRAM, "recover", "0")).toContain("restarts 1\n");
  await readBlock(device.path);
});

test("a standby has opened when its moment comes, and calls it before it asks for the device", async () => {
  await using device = await add();
  await using watch = await startWatchOf(ODD_PROGRAM, "--standby");
  await until("a standby", () => watch.stderr().includes("has a standby"));
  expect(calls()).toEqual(["open new", "open"]);
  writeFileSync(`${CALLS}.stuck`, "");
  const killed = killNow(0);
  await until("its fence", () => calls().at(-1) === "fence");
  await device.untilState("QUIESCED");
  expect(serverPids(0)).toEqual([]);
  rmSync(`${CALLS}.stuck`);
  await untilServedAnew(device, killed);
  expect(calls().slice(0, 3)).toEqual(["open new", "open", "fence"]);
  await endWatch(watch);
});
