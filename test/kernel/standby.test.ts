// watch --standby: a server in waiting for each disk takes over at once; whatever becomes of it, the
// disk is recovered.

import { afterEach, expect, test } from "bun:test";
import { copyFileSync, readdirSync } from "node:fs";

import {
  type Background,
  daemonPids,
  ddWords,
  killNow,
  readBlock,
  start,
  untilInFlight,
  untilWaiting,
} from "../support/crash.ts";
import {
  hasFeature,
  isProgramOf,
  leftovers,
  program,
  serverPids,
  TestDevice,
  ublkOk,
  until,
} from "../support/program.ts";
import {
  endWatch,
  eventsOf,
  keepVerifying,
  startWatch,
  untilEvent,
  untilServedAnew,
} from "../support/watching.ts";

afterEach(() => expect(leftovers()).toEqual([]));

/** The pid of the standby that watch has told last, once that is another than `not` and lives. */
async function untilReady(watch: Background, { id }: TestDevice, not = 0): Promise<number> {
  let pid = 0;
  await until(`a standby of device ${id}`, () => {
    const told = [...watch.stderr().matchAll(/has a standby, pid (\d+)\n/g)].at(-1);
    pid = Number(told?.[1] ?? 0);
    return pid !== 0 && pid !== not && isRunning(pid);
  });
  return pid;
}

const isRunning = (pid: number) => daemonPids().includes(pid);

async function untilServedBy({ id, path }: TestDevice, pid: number): Promise<void> {
  await until(`server ${pid}`, () => serverPids(id).includes(pid));
  await readBlock(path);
}

test("fio verifies its writes through kills after each of which the standby serves", async () => {
  await using device = await TestDevice.add("mem", "-n0", "-q2", "--size=64MiB");
  await using watch = await startWatch("--standby");
  let standby = await untilReady(watch, device);
  const since = Date.now();
  const fio = keepVerifying(device);
  const rounds = 2;
  for (let round = 0; round < rounds; round++) {
    await fio.kill();
    await untilServedBy(device, standby);
    standby = await untilReady(watch, device, standby);
  }
  await fio.end();
  const events = eventsOf(0, since);
  expect(events.map(({ event }) => String(event))).toEqual(
    Array.from({ length: rounds }, () => ["died", "recovering", "recovered"]).flat(),
  );
  for (const event of events.filter((each) => each.event === "recovered")) {
    expect(event).toMatchObject({ standby: true, pauseFrom: "death" });
  }
  expect((await device.report()).restarts).toBe(rounds);
  await endWatch(watch);
});

test("a request that nobody answered is answered by the standby", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await using watch = await startWatch("--standby");
  const standby = await untilReady(watch, device);
  const pid = await device.serverPid();
  process.kill(pid, "SIGSTOP");
  await using reader = start(...ddWords(device.path, 7));
  await untilWaiting(reader, device.path);
  await untilInFlight(0, 1);
  process.kill(pid, "SIGKILL");
  expect((await reader.ended).exitCode).toBe(0);
  await untilServedBy(device, standby);
  await endWatch(watch);
});

test("a standby that is killed is replaced; killed with the server, recover does it", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await using watch = await startWatch("--standby");
  const first = await untilReady(watch, device);
  expect(JSON.parse(await ublkOk("info", "0", "--json"))).toMatchObject({ standbyPid: first });
  process.kill(first, "SIGKILL");
  const second = await untilReady(watch, device, first);
  const since = Date.now();
  process.kill(second, "SIGKILL");
  killNow(0);
  await untilEvent("recovered", 0, since);
  const recovered = eventsOf(0, since).find(({ event }) => event === "recovered");
  expect(recovered?.standby).toBeUndefined();
  await readBlock(device.path);
  const third = await untilReady(watch, device, second);
  killNow(0);
  await untilServedBy(device, third);
  await endWatch(watch);
});

test("it follows an upgrade and another size, and goes with the disk", async () => {
  const newer = "/tmp/ublk-bun-newer";
  copyFileSync(program, newer);
  await using device = await TestDevice.add("mem", "-n0", "--size=16MiB");
  await using watch = await startWatch("--standby");
  let standby = await untilReady(watch, device);
  await ublkOk("upgrade", "0", "--binary", newer);
  standby = await untilReady(watch, device, standby);
  const since = Date.now();
  killNow(0);
  await untilServedBy(device, standby);
  expect(isProgramOf(standby, newer)).toBe(true);
  // The record is written before, and the disk can be read sooner.
  await untilEvent("recovered", 0, since);
  expect((await device.report()).restarts).toBe(2);
  // Without a standby, too, it is the newer program that recovers.
  standby = await untilReady(watch, device, standby);
  process.kill(standby, "SIGKILL");
  await untilServedAnew(device, killNow(0));
  expect(isProgramOf(serverPids(0)[0]!, newer)).toBe(true);
  if (await hasFeature("UPDATE_SIZE")) {
    standby = await untilReady(watch, device, standby);
    await ublkOk("update-size", "0", "32MiB");
    standby = await untilReady(watch, device, standby);
    killNow(0);
    await untilServedBy(device, standby);
    await readBlock(device.path, 8191);
    expect((await device.report()).spec).toMatchObject({ sizeBytes: 32 << 20 });
  }
  await untilReady(watch, device, standby);
  // When del returns nobody has the disk's files open.
  await ublkOk("del", "0");
  expect(leftovers().filter((what) => what.startsWith("process"))).toEqual([]);
  await endWatch(watch);
});

test("without watch there is no standby, and none takes a disk that is served", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await using watch = await startWatch("--standby");
  const standby = await untilReady(watch, device);
  const pid = await device.serverPid();
  watch.kill("SIGKILL");
  await watch.ended;
  await until("the standby has ended", () => !isRunning(standby));
  expect(await device.serverPid()).toBe(pid);
  await using next = await startWatch("--standby");
  await untilReady(next, device, standby);
  await endWatch(next);
});

test("watch keeps no descriptor of standbys that have served or ended", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await using watch = await startWatch("--standby");
  const descriptors = () => readdirSync(`/proc/${watch.pid}/fd`).length;
  let standby = await untilReady(watch, device);
  const counts: number[] = [];
  for (let round = 0; round < 3; round++) {
    killNow(0);
    await untilServedBy(device, standby);
    standby = await untilReady(watch, device, standby);
    process.kill(standby, "SIGKILL");
    standby = await untilReady(watch, device, standby);
    counts.push(descriptors());
  }
  expect(counts.at(-1)).toBe(counts[0]!);
  await endWatch(watch);
});
