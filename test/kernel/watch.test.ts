// watch and recover --all: disks whose servers die go on by themselves, and nobody else's are touched.

import { afterEach, expect, test } from "bun:test";
import { readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from "node:fs";

import { peek } from "../../src/device/processes.ts";
import {
  type Background,
  changeRecord,
  daemonPids,
  killNow,
  moments,
  readBlock,
  recordPath,
  recordText,
  signalUntilLetGo,
  start,
  startUblk,
} from "../support/crash.ts";
import { DatagramSocket } from "../support/datagram.ts";
import { amount } from "../support/long.ts";
import {
  hasFeature,
  leftovers,
  program,
  serverPids,
  TestDevice,
  ublk,
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

/** Whether watch waits for the death of device 0's server, and, where it shall, has a standby ready. */
function isKept(watch: Background, withStandby: boolean): boolean {
  const lastPid = (pattern: RegExp) => Number([...watch.stderr().matchAll(pattern)].at(-1)?.[1]);
  const [server] = serverPids(0);
  if (lastPid(/is watched, its server is pid (\d+)\n/g) !== server) return false;
  const standby = lastPid(/has a standby, pid (\d+)\n/g);
  return !withStandby || (standby !== server && daemonPids().includes(standby));
}

const served = ({ id }: TestDevice) => serverPids(id).length > 0;

test("fio verifies its writes through kills that watch recovers; events tell of each", async () => {
  await using device = await TestDevice.add("mem", "-n0", "-q2", "--size=64MiB");
  await using watch = await startWatch();
  const since = Date.now();
  const fio = keepVerifying(device);
  const rounds = 2;
  const recoveries = () => eventsOf(0, since).filter(({ event }) => event === "recovered").length;
  for (let round = 1; round <= rounds; round++) {
    await untilServedAnew(device, await fio.kill());
    // A server that dies earlier is no second death: watch tries the same recovery again.
    await until("its recovery has ended", () => recoveries() === round);
  }
  await fio.end();
  await endWatch(watch);
  const events = eventsOf(0, since);
  expect(events.map(({ event }) => String(event))).toEqual(
    Array.from({ length: rounds }, () => ["died", "recovering", "recovered"]).flat(),
  );
  for (const { pauseMs, pauseFrom } of events.filter(({ event }) => event === "recovered")) {
    expect(pauseFrom).toBe("death");
    expect(pauseMs).toBeGreaterThan(0);
  }
  expect((await device.report()).restarts).toBe(rounds);
});

test("servers killed at once are recovered, and a device that was added later", async () => {
  await using earlier = await TestDevice.add("null", "-n0");
  await using watch = await startWatch();
  await using later = await TestDevice.add("null", "-n1");
  const devices = [earlier, later];
  const pids = devices.map(({ id }) => killNow(id));
  for (const [i, device] of devices.entries()) await untilServedAnew(device, pids[i]!);
  await endWatch(watch);
  // Its end is nobody else's.
  for (const device of devices) expect(served(device)).toBeTrue();
});

test("a second watch of the same folder is refused, naming the first", async () => {
  await using watch = await startWatch();
  const second = await ublk("watch");
  expect(second.stderr).toContain(`by pid ${watch.pid} (watch)`);
  expect(second.exitCode).toBe(5);
  await endWatch(watch);
});

test.each(["keep", "stop"])("a crash loop is given up: %s", async (policy) => {
  const spec = "fault_inject -n0 --size=1GiB --fault=exit --fault-at=512MiB".split(" ");
  await using device = await TestDevice.add(...spec);
  const since = Date.now();
  await using watch = await startWatch("--max-restarts=2", `--on-giveup=${policy}`);
  // Every server that recovers the disk is given this request again, and dies of it.
  const dd = `dd if=${device.path} of=/dev/null bs=4k skip=131072 count=1 iflag=direct`;
  await using reader = start(...dd.split(" "));
  await untilEvent("gave-up", 0, since);
  const gaveUp = eventsOf(0, since).find(({ event }) => event === "gave-up");
  expect(gaveUp).toMatchObject({ policy, reason: "2 restarts within 120 s" });
  if (policy === "keep") {
    await device.untilState("QUIESCED");
    expect(reader.running).toBeTrue();
  } else {
    expect((await reader.ended).exitCode).toBe(1);
    await device.untilState("DEAD");
  }
  await until("watch says so", () => watch.stderr().includes("is given up"));
  await endWatch(watch);
  await ublkOk("del", "0", "--force");
  if (policy === "keep") expect((await reader.ended).exitCode).toBe(1);
});

test("given up with fail: a disk that can fail stays, and is recovered; another is stopped", async () => {
  const canFail = await hasFeature("USER_RECOVERY_FAIL_IO");
  await using device = await TestDevice.add(
    "null",
    "-n0",
    `--recovery=${canFail ? "fail" : "reissue"}`,
  );
  await using watch = await startWatch("--max-restarts=0", "--on-giveup=fail");
  await until("it is watched", () => watch.stderr().includes("is watched"));
  killNow(0);
  await until("it is given up", () => watch.stderr().includes("is given up"));
  await device.untilState(canFail ? "FAIL_IO" : "DEAD");
  if (canFail) {
    await ublkOk("recover", "0", "--quiet");
    await readBlock(device.path);
  }
  await endWatch(watch);
});

test.each([[""], ["--standby"]])(
  "watch %s is killed at any moment of a recovery: the next one recovers nothing twice",
  async (option) => {
    await using device = await TestDevice.add("null", "-n0");
    await using watches = new AsyncDisposableStack();
    const startOne = async () => {
      const watch = watches.use(await startWatch(...(option === "" ? [] : [option])));
      await until("the disk is kept", () => isKept(watch, option !== ""));
      return watch;
    };
    let watch = await startOne();
    const began = performance.now();
    await untilServedAnew(device, killNow(0));
    const whole = performance.now() - began;
    const rounds = moments(whole, amount({ short: 2, long: 10 }));
    for (const moment of rounds) {
      await until("the disk is kept again", () => isKept(watch, option !== ""));
      const since = Date.now();
      const killed = killNow(0);
      await Bun.sleep(moment);
      watch.kill("SIGKILL");
      await watch.ended;
      watch = await startOne();
      await untilServedAnew(device, killed);
      await untilEvent("recovered", 0, since);
      const recovered = eventsOf(0, since).filter(({ event }) => event === "recovered");
      expect(recovered.length, `killed after ${moment} of ${whole} ms`).toBe(1);
    }
    await endWatch(watch);
    await until("its standby has gone", () => daemonPids().length === 1);
    expect((await device.report()).restarts).toBe(1 + rounds.length);
  },
);

test("what was orphaned before watch began is recovered", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const pid = killNow(0);
  await until("it is dead", () => daemonPids().length === 0);
  const since = Date.now();
  await using watch = await startWatch();
  await untilServedAnew(device, pid);
  await endWatch(watch);
  expect(eventsOf(0, since)[0]).toMatchObject({ how: "found without a server", pid: null });
});

test("a record of another boot or device, or a damaged one, is left alone", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const pid = killNow(0);
  const text = recordText(0);
  const changes = [
    () => changeRecord(0, (record) => ({ ...record, bootId: crypto.randomUUID() })),
    () => changeRecord(0, (record) => ({ ...record, identity: "8000000000000001" })),
    () => writeFileSync(recordPath(0), "{"),
  ];
  for (const change of changes) {
    writeFileSync(recordPath(0), text);
    change();
    await using watch = await startWatch();
    await until("it is left alone", () => watch.stderr().includes("device 0 is left alone"));
    await endWatch(watch);
    expect(daemonPids()).toEqual([]);
  }
  await using watch = await startWatch();
  // It need not be started again when the record is mended.
  writeFileSync(recordPath(0), text);
  await untilServedAnew(device, pid);
  await endWatch(watch);
});

test("del, stop and upgrade are not fought with, and nobody is said to have died", async () => {
  await using watch = await startWatch();
  const since = Date.now();
  for (let round = 0; round < 2; round++) {
    await using device = await TestDevice.add("null", "-n0");
    await until("it is watched", () => watch.stderr().includes("is watched, its server is pid"));
    if (round === 0) await ublkOk("upgrade", "0");
    await readBlock(device.path);
    if (round === 0) await ublkOk("stop", "0");
    await ublkOk("del", "0");
    expect(await ublk("list", "0")).toMatchObject({ exitCode: 3 });
  }
  const names = eventsOf(0, since).map(({ event }) => event);
  expect(names).not.toContain("died");
  expect(names.filter((name) => name === "deleted").length).toBe(2);
  expect(watch.stderr()).not.toContain("is being recovered");
  await endWatch(watch);
});

test("a server that was asked to let go by two signals stays away until recover", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await using watch = await startWatch();
  await using holder = start("sh", "-c", `exec 3<${device.path}; exec sleep 600`);
  const pid = await device.serverPid();
  const isOpen = () => peek(() => readlinkSync(`/proc/${holder.pid}/fd/3`)) === device.path;
  await until("the disk is open", isOpen);
  process.kill(pid, "SIGTERM");
  const log = `/run/ublk-bun/0.log`;
  await until("it refuses", () => readFileSync(log, "utf8").includes("goes on serving"));
  await signalUntilLetGo(0, pid);
  await until("watch sees it", () => watch.stderr().includes("no server on purpose"));
  expect((await device.report()).serverPid).toBeNull();
  await ublkOk("recover", "0", "--quiet");
  await untilServedAnew(device, killNow(0));
  holder.kill("SIGKILL");
  await holder.ended;
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
  expect(eventsOf(0, since).map(({ event }) => event)).toEqual(["died"]);
  await endWatch(watch);
});

test("recover --all serves every orphan, goes on after one that fails, and ends with its code", async () => {
  await using gone = await TestDevice.add("mem", "-n0", "--size=16MiB");
  await using fine = await TestDevice.add("null", "-n1");
  for (const { id } of [gone, fine]) killNow(id);
  const memory = `/dev/shm/ublk-bun-${JSON.parse(recordText(0)).identity}`;
  const aside = "/dev/shm/aside";
  renameSync(memory, aside);
  const { exitCode, stdout, stderr } = await ublk("recover", "--all", "--json");
  renameSync(aside, memory);
  expect(JSON.parse(stdout)).toMatchObject([
    { id: 0, recovered: false, serverPid: null },
    { id: 1, recovered: true, error: null },
  ]);
  expect(stderr).toContain("device 0: ");
  expect(exitCode).toBe(6);
  const pid = await fine.serverPid();
  expect(await ublkOk("recover", "--all")).toMatch(/^\/dev\/ublkb0 is live, pid \d+\n$/);
  expect(await fine.serverPid()).toBe(pid);
});

test("systemd hears when watch is ready, how many servers there are, and its end", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const path = "/tmp/notify-watch";
  using manager = new DatagramSocket(path);
  await using watch = start("env", `NOTIFY_SOCKET=${path}`, program, "watch");
  const heard: string[] = [];
  const hears = (words: string) =>
    until(words, () => {
      for (let text = manager.receive(); text !== ""; text = manager.receive()) heard.push(text);
      return heard.some((text) => text.includes(words));
    });
  await hears("STATUS=1 server is watched\n");
  expect(heard.filter((text) => text.startsWith("READY=1\n")).length).toBe(1);
  await endWatch(watch);
  await hears("STOPPING=1\n");
  expect(await device.serverPid()).toBeGreaterThan(0);
});

test("a unit is installed where systemd looks for it", async () => {
  const stdout = await ublkOk("systemd", "--install");
  expect(stdout).toContain("systemctl enable --now ublk-bun-watch.service");
  const other = await ublk("systemd", "--install", "--max-restarts=3");
  expect(other.stderr).toContain("says something else");
  expect(other.exitCode).toBe(1);
  rmSync("/etc/systemd/system/ublk-bun-watch.service");
});

test("a recovery by hand and watch do not both serve", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await using watch = await startWatch();
  for (let round = 1; round <= 2; round++) {
    const since = Date.now();
    const killed = killNow(0);
    await using rival = startUblk("recover", "0", "--quiet");
    const { exitCode } = await rival.ended;
    expect([0, 5, 6]).toContain(exitCode);
    await untilServedAnew(device, killed);
    // Its record is written before, and the disk can be read sooner.
    await untilEvent("recovered", 0, since);
    expect((await device.report()).restarts).toBe(round);
  }
  await endWatch(watch);
});
