// watch and recover --all: disks whose servers die go on by themselves, and nobody else's are touched.

import { afterEach, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";

import {
  changeRecord,
  daemonPids,
  killNow,
  readBlock,
  recordPath,
  start,
  startUblk,
} from "../support/crash.ts";
import { leftovers, TestDevice, ublk, ublkOk, until } from "../support/program.ts";
import { endWatch, eventsOf, startWatch, untilEvent } from "../support/watching.ts";

afterEach(() => expect(leftovers()).toEqual([]));

const served = async (device: TestDevice) => (await device.report()).serverPid !== null;

/** Waits until `device` has another server than `pid`, and can be read. */
async function untilServedAnew(device: TestDevice, pid: number): Promise<void> {
  await until("a new server", async () => {
    const { serverPid } = await device.report();
    return serverPid !== null && serverPid !== pid;
  });
  await readBlock(device.path);
}

test("fio verifies its writes through kills that watch recovers; events tell of each", async () => {
  await using device = await TestDevice.add("mem", "-n0", "-q2", "--size=64MiB");
  await using watch = await startWatch();
  const since = Date.now();
  const words = `--name=job --filename=${device.path} --rw=randwrite --bs=4k --direct=1
    --ioengine=libaio --iodepth=32 --size=32m --verify=crc32c --verify_fatal=1 --do_verify=1
    --rate_iops=1500`;
  await using fio = start("fio", ...words.split(/\s+/));
  const rounds = 3;
  for (let round = 0; round < rounds; round++) {
    await device.untilBusy();
    await untilServedAnew(device, killNow(0));
  }
  const { exitCode, stderr } = await fio.ended;
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  await endWatch(watch);
  const events = await eventsOf(0, since);
  expect(events.map(({ event }) => String(event))).toEqual(
    Array.from({ length: rounds }, () => ["died", "recovering", "recovered"]).flat(),
  );
  for (const { pauseMs, pauseFrom } of events.filter(({ event }) => event === "recovered")) {
    expect(pauseFrom).toBe("death");
    expect(pauseMs).toBeGreaterThan(0);
  }
  expect((await device.report()).restarts).toBe(rounds);
});

test("several servers killed at once, and a device that was added later", async () => {
  await using watch = await startWatch();
  const devices: TestDevice[] = [];
  try {
    for (let id = 0; id < 4; id++) devices.push(await TestDevice.add("null", `-n${id}`));
    const pids = devices.map(({ id }) => killNow(id));
    for (const [i, device] of devices.entries()) await untilServedAnew(device, pids[i]!);
    await endWatch(watch);
    // Its end is nobody else's.
    for (const device of devices) expect(await served(device)).toBeTrue();
  } finally {
    for (const device of devices) await device[Symbol.asyncDispose]();
  }
});

test("a second watch of the same folder is refused, naming the first", async () => {
  await using watch = await startWatch();
  const second = await ublk("watch");
  expect(second.stderr).toContain(`by pid ${watch.pid} (watch)`);
  expect(second.exitCode).toBe(5);
  await endWatch(watch);
});

test.each(["keep", "stop", "fail"])("a crash loop is given up: %s", async (policy) => {
  const spec = "fault_inject -n0 --size=1GiB --fault=exit --fault-at=512MiB".split(" ");
  await using device = await TestDevice.add(...spec);
  const since = Date.now();
  await using watch = await startWatch("--max-restarts=2", `--on-giveup=${policy}`);
  // Every server that recovers the disk is given this request again, and dies of it.
  const dd = `dd if=${device.path} of=/dev/null bs=4k skip=131072 count=1 iflag=direct`;
  await using reader = start(...dd.split(" "));
  await untilEvent("gave-up", 0, since);
  const gaveUp = (await eventsOf(0, since)).find(({ event }) => event === "gave-up");
  expect(gaveUp).toMatchObject({ policy, reason: "2 restarts within 120 s" });
  if (policy === "keep") {
    await device.untilState("QUIESCED");
    expect(reader.running).toBeTrue();
  } else {
    expect((await reader.ended).exitCode).toBe(1);
    await device.untilState("DEAD");
  }
  expect(watch.stderr()).toContain("is given up");
  await endWatch(watch);
  await ublkOk("del", "0", "--force");
  if (policy === "keep") expect((await reader.ended).exitCode).toBe(1);
});

test("watch is killed during a recovery: the next one recovers nothing twice", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const restarts = async () => (await device.report()).restarts;
  for (let round = 1; round <= 3; round++) {
    await using first = await startWatch();
    const killed = killNow(0);
    const since = Date.now();
    await until("a recovery", () => first.stderr().includes("is being recovered"));
    first.kill("SIGKILL");
    await first.ended;
    await using second = await startWatch();
    await untilServedAnew(device, killed);
    await untilEvent("recovered", 0, since - 1000);
    await until("the device is watched", () => second.stderr().includes("is watched"));
    await endWatch(second);
    expect(await restarts()).toBe(round);
    expect(daemonPids().length).toBe(1);
  }
});

test("what was orphaned before watch began is recovered", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await device.killServer();
  const since = Date.now();
  await using watch = await startWatch();
  await untilEvent("recovered", 0, since);
  expect((await eventsOf(0, since))[0]).toMatchObject({ how: "found without a server", pid: null });
  await readBlock(device.path);
  await endWatch(watch);
});

test("records of another boot or device, and damaged ones, are left alone", async () => {
  await using boot = await TestDevice.add("null", "-n0");
  await using identity = await TestDevice.add("null", "-n1");
  await using damaged = await TestDevice.add("null", "-n2");
  await using ours = await TestDevice.add("null", "-n3");
  for (const device of [boot, identity, damaged, ours]) await device.killServer();
  changeRecord(0, (record) => ({ ...record, bootId: "00000000-0000-0000-0000-000000000000" }));
  changeRecord(1, (record) => ({ ...record, identity: "8000000000000001" }));
  writeFileSync(recordPath(2), "{");
  await using watch = await startWatch();
  await until("ours is served", () => served(ours));
  for (const id of [0, 1, 2]) {
    await until(`device ${id}`, () => watch.stderr().includes(`device ${id} is left alone`));
  }
  for (const device of [boot, identity, damaged]) {
    expect(await device.report()).toMatchObject({ state: "QUIESCED", serverPid: null });
  }
  await endWatch(watch);
});

test("del, stop and upgrade are not fought with, and nobody is said to have died", async () => {
  await using watch = await startWatch();
  const since = Date.now();
  for (let round = 0; round < 3; round++) {
    await using device = await TestDevice.add("null", "-n0");
    await until("it is watched", () => watch.stderr().includes("is watched, its server is pid"));
    await ublkOk("upgrade", "0");
    await readBlock(device.path);
    if (round === 1) await ublkOk("stop", "0");
    await ublkOk("del", "0");
    expect(await ublk("list", "0")).toMatchObject({ exitCode: 3 });
  }
  const names = (await eventsOf(0, since)).map(({ event }) => event);
  expect(names).not.toContain("died");
  expect(names.filter((name) => name === "deleted").length).toBe(3);
  expect(watch.stderr()).not.toContain("is being recovered");
  await endWatch(watch);
});

test("a device without recovery is told dead, and left alone", async () => {
  await using device = await TestDevice.add("null", "-n0", "--recovery=none");
  const since = Date.now();
  await using watch = await startWatch();
  await until("it is watched", () => watch.stderr().includes("is watched"));
  killNow(0);
  await until("it says so", () => watch.stderr().includes("added without recovery"));
  await device.untilState("DEAD");
  expect((await eventsOf(0, since)).map(({ event }) => event)).toEqual(["died"]);
  await endWatch(watch);
});

test("a unit is installed where systemd looks for it", async () => {
  const { exitCode, stdout } = await ublk("systemd", "--install");
  expect(stdout).toContain("systemctl enable --now ublk-bun-watch.service");
  expect(exitCode).toBe(0);
  expect(await ublkOk("systemd", "--install")).toContain("is there already");
  const other = await ublk("systemd", "--install", "--max-restarts=3");
  expect(other.exitCode).toBe(1);
  await ublkOk("systemd", "--install", "--force", "--max-restarts=3");
  await Bun.$`rm /etc/systemd/system/ublk-bun-watch.service`;
});

test("a recovery by hand and watch do not both serve", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await using watch = await startWatch();
  for (let round = 1; round <= 3; round++) {
    const killed = killNow(0);
    await using rival = startUblk("recover", "0", "--quiet");
    const { exitCode } = await rival.ended;
    expect([0, 5, 6]).toContain(exitCode);
    await untilServedAnew(device, killed);
    expect((await device.report()).restarts).toBe(round);
  }
  await endWatch(watch);
});
