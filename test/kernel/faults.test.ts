// A server that fails in every way we could think of: its process ends, its disk does not.

import { afterEach, expect, test } from "bun:test";
import { resolve } from "node:path";

import { batchWords, isBatch } from "../support/batch.ts";
import {
  changeRecord,
  daemonPids,
  ddWords,
  mendTarget,
  readBlock,
  signalUntilLetGo,
  start,
  untilInFlight,
} from "../support/crash.ts";
import {
  type DeviceReport,
  leftovers,
  program,
  run,
  runOk,
  serverPids,
  TestDevice,
  ublk,
  ublkOk,
  until,
} from "../support/program.ts";

const FATAL_EXIT = 70;
/** The block that `--fault-at 1GiB` is about. */
const FAULT_BLOCK = 2 ** 30 / 4096;
const misbehave = [process.execPath, resolve(import.meta.dir, "../support/misbehave.ts")];

afterEach(async () => {
  await until("nothing is left", () => leftovers().length === 0, 20_000).catch(() => {});
  expect(leftovers()).toEqual([]);
});

const faulty = (fault: string, ...more: string[]) => [
  "--target=fault_inject",
  "-n0",
  `--fault=${fault}`,
  "--fault-at=1GiB",
  ...more,
];

/** One direct read in the background. Its scope does not wait for it: the device's end ends it. */
function request(device: TestDevice, block: number, cpu?: number) {
  const pinned = cpu === undefined ? [] : ["taskset", "-c", `${cpu}`];
  const dd = start(...pinned, ...ddWords(device.path, block));
  return {
    ended: dd.ended,
    isWaiting: () => dd.running,
    [Symbol.dispose]: () => dd.kill("SIGKILL"),
  };
}

/** Its server is gone, its disk waits; a read sent now is answered by the next server. */
async function expectRecoverable(device: TestDevice): Promise<void> {
  await device.untilState("QUIESCED");
  expect((await device.report()).serverPid).toBeNull();
  using held = request(device, 5);
  await ublkOk("recover", "0", "--quiet");
  expect((await held.ended).exitCode).toBe(0);
  await readBlock(device.path, 9);
  expect((await device.report()).state).toBe("LIVE");
}

test.each([
  ["throw", "thrown on purpose"],
  ["exit", "its thread ended"],
  ["thread-exit", "its thread is gone"],
  ["loop", "busy with one round for 2000 ms"],
])("a Worker's %s ends the process, and the disk is recovered", async (fault, words) => {
  const options = faulty(fault, "-q", "2", "--recovery=queue", "--stall-timeout", "2s");
  await using server = start(program, "add", "--foreground", ...options, ...batchWords);
  await using device = new TestDevice(0);
  // Its own word, after the first read: the kernel says so before it has begun.
  await until("live", () => server.stdout().includes("state LIVE"));
  // With --recovery=queue, what the dead server had begun fails: here it would kill the next one.
  expect((await run(ddWords(device.path, FAULT_BLOCK))).exitCode).toBe(1);
  const { exitCode, stderr } = await server.ended;
  expect(stderr).toContain(words);
  expect(exitCode).toBe(FATAL_EXIT);
  await expectRecoverable(device);
});

test.each([
  ["SIGUSR1", "its thread ended"],
  ["SIGUSR2", "an uncaught error"],
  ["SIGWINCH", "an unhandled rejection"],
] as const)(
  "main's own failure on %s ends the process, and the disk is recovered",
  async (signal, words) => {
    const add = ["add", "-t", "null", "-n", "0", "-q", "2", "--quiet", ...batchWords];
    await runOk(...misbehave, ...add);
    await using device = new TestDevice(0);
    process.kill(await device.serverPid(), signal);
    await until("its server is gone", () => serverPids(0).length === 0);
    expect(await Bun.file("/run/ublk-bun/0.log").text()).toContain(words);
    await expectRecoverable(device);
  },
);

test.each(["SIGSEGV", "SIGABRT"] as const)("%s leaves a disk to recover", async (signal) => {
  await using device = await TestDevice.add("--target", "null", "-n", "0");
  process.kill(await device.serverPid(), signal);
  await until("its server is gone", () => serverPids(0).length === 0);
  await expectRecoverable(device);
});

test("a request that kills each server again and again fails with --recovery=reissue too", async () => {
  await using device = await TestDevice.add(...faulty("throw"));
  using dd = request(device, FAULT_BLOCK);
  await until("the first server is gone", () => serverPids(0).length === 0);
  // The kernel gives it to the next server, which dies of it as well: recover says live, or why not.
  const second = await ublk("recover", "0", "--quiet");
  expect([0, 1]).toContain(second.exitCode);
  await until("the second server is gone", () => serverPids(0).length === 0);
  expect(dd.isWaiting()).toBe(true);
  await ublkOk("del", "0", "--force");
  expect((await dd.ended).exitCode).toBe(1);
});

test("a busy main thread and a blocked Worker do not stop the other queues", async () => {
  const target = faulty("loop", "-q", "2", "--stall-timeout=0", "--recovery=queue", "--quiet");
  await runOk(...misbehave, "add", ...target, ...batchWords);
  await using device = new TestDevice(0);
  const pid = await device.serverPid();
  process.kill(pid, "SIGURG");
  const onCpu = (cpu: number, block: number) => [
    "taskset",
    "-c",
    `${cpu}`,
    ...ddWords(device.path, block),
  ];
  await runOk(...onCpu(0, 1));
  await runOk(...onCpu(1, 2));
  const { queues } = await device.report();
  const [mine = -1] = queues[0]!.cpus;
  const [others = -1] = queues[1]!.cpus;
  using blocked = request(device, FAULT_BLOCK, mine);
  await untilInFlight(0, 1);
  for (let block = 10; block < 15; block++) await runOk(...onCpu(others, block));
  expect(blocked.isWaiting()).toBe(true);
  // Without --stall-timeout nobody ends it.
  expect(await device.serverPid()).toBe(pid);
  process.kill(pid, "SIGKILL");
  await until("its server is gone", () => serverPids(0).length === 0);
});

test("a server that was stopped for longer than the stall timeout has not stalled", async () => {
  await using device = await TestDevice.add("-t", "null", "-n", "0", "--stall-timeout", "500ms");
  const pid = await device.serverPid();
  for (let round = 0; round < 3; round++) {
    process.kill(pid, "SIGSTOP");
    using dd = request(device, round);
    await untilInFlight(0, 1);
    // The time itself is what is tested.
    await Bun.sleep(1000);
    process.kill(pid, "SIGCONT");
    expect((await dd.ended).exitCode).toBe(0);
  }
  expect(await device.serverPid()).toBe(pid);
  expect((await device.report()).state).toBe("LIVE");
});

/** What must hold while device 0's server `pid` sits on one request. */
async function expectStuckButSane(pid: number): Promise<void> {
  const open = await ublk("del", "0");
  expect(open.stderr).toContain("(dd)");
  expect(open.exitCode).toBe(5);
  const [stop, del] = await Promise.all([
    ublk("stop", "0", "--force", "--timeout", "2s"),
    ublk("add", "-t", "null", "-n", "1", "--quiet"),
  ]);
  expect(del.stderr).toBe("");
  expect(stop.stderr).toContain(`pid ${pid} (ublk-bun) still holds 1 request`);
  expect(stop.exitCode).toBe(124);
  const again = await ublk("del", "0", "--force", "--timeout", "2s");
  expect(again.stderr).toContain(`pid ${pid} (ublk-bun) still holds 1 request`);
  expect(again.exitCode).toBe(124);
  const recover = await ublk("recover", "0", "--timeout", "2s");
  expect(recover.stderr).toContain(`pid ${pid}`);
  expect(recover.exitCode).toBe(6);
  const reports = JSON.parse(await ublkOk("list", "--json")) as DeviceReport[];
  expect(reports.map(({ id }) => id)).toEqual([0, 1]);
  await ublkOk("del", "1");
  expect((await ublk("list", "0")).stdout).toContain("dev id 0");
}

test("a server that never answers: every command ends in time, its death frees all", async () => {
  await using device = await TestDevice.add(...faulty("swallow"));
  const pid = await device.serverPid();
  using dd = request(device, FAULT_BLOCK);
  await untilInFlight(0, 1);
  await expectStuckButSane(pid);
  process.kill(pid, "SIGKILL");
  // The waiting STOP ends it: the disk is gone, and what waited for it fails.
  expect((await dd.ended).exitCode).toBe(1);
  await until("no process of ours", () => daemonPids().length === 0);
  await ublkOk("del", "0");
});

test("a stopped server: the same, and when it goes on it answers", async () => {
  await using device = await TestDevice.add("-t", "null", "-n", "0");
  const pid = await device.serverPid();
  process.kill(pid, "SIGSTOP");
  using dd = request(device, 1);
  await untilInFlight(0, 1);
  await expectStuckButSane(pid);
  process.kill(pid, "SIGCONT");
  expect((await dd.ended).exitCode).toBe(0);
  await until("no process of ours", () => daemonPids().length === 0);
  await ublkOk("del", "0");
});

test("del of an idle disk whose server is stopped names that server; killing it frees all", async () => {
  await using device = await TestDevice.add("-t", "null", "-n", "0");
  const pid = await device.serverPid();
  process.kill(pid, "SIGSTOP");
  const { exitCode, stderr } = await ublk("del", "0", "--timeout", "3s");
  expect(stderr).toContain(`pid ${pid} (ublk-bun) still holds the device`);
  expect(stderr).toContain("kill -9");
  expect(exitCode).toBe(124);
  await ublkOk("add", "-t", "null", "-n", "1", "--quiet");
  await ublkOk("del", "1");
  process.kill(pid, "SIGKILL");
  await until("the waiting DEL ends", async () => (await ublk("list")).stdout === "");
  await ublkOk("del", "0");
});

test("SIGTERM to a server that sits on a request is refused; a second one lets go", async () => {
  await using device = await TestDevice.add(...faulty("swallow", "--recovery=queue"));
  const pid = await device.serverPid();
  using dd = request(device, FAULT_BLOCK);
  await untilInFlight(0, 1);
  process.kill(pid, "SIGTERM");
  const log = () => Bun.file("/run/ublk-bun/0.log").text();
  await until("it says why not", async () => (await log()).includes("asked to end, but"));
  expect(await log()).toContain("(dd)");
  await signalUntilLetGo(0, pid);
  await until("its server is gone", () => serverPids(0).length === 0);
  expect((await dd.ended).exitCode).toBe(1);
  await expectRecoverable(device);
});

test("add of a disk whose first read is never answered ends at its deadline, and takes it back", async () => {
  const options = ["--target", "fault_inject", "-n", "0", "--fault", "swallow", "--fault-at", "0"];
  const { exitCode, stderr } = await ublk("add", ...options, "--timeout", "3s");
  // Linux 6.12 reads the partition table inside START_DEV; later ones after it.
  expect(stderr).toMatch(/START_DEV of device 0 did not end within 3 s|cannot be read within 3 s/);
  expect(exitCode).toBe(124);
});

test("add of a disk whose target throws at the first read says so, and takes it back", async () => {
  const options = ["--target", "fault_inject", "-n", "0", "--fault", "throw", "--fault-at", "0"];
  const { exitCode, stderr } = await ublk("add", ...options);
  expect(stderr).toContain("fault_inject: thrown on purpose");
  expect(exitCode).toBe(1);
});

/** Keeps the disk open, and so what the page cache has of it. */
function holdOpen(device: TestDevice): AsyncDisposable {
  const holder = Bun.spawn(["sleep", "1000"], { stdio: [Bun.file(device.path), null, null] });
  return {
    [Symbol.asyncDispose]: async () => {
      holder.kill("SIGKILL");
      await holder.exited;
    },
  };
}

/** A recover that must not take the disk for usable; then its server is killed, and a good one follows. */
async function expectLateUntilMended(device: TestDevice): Promise<void> {
  const { exitCode, stderr } = await ublk("recover", "0", "--timeout=10s");
  expect(stderr).toMatch(/Device 0 cannot be read within 10 s: .* does not answer \d+ request/);
  expect(exitCode).toBe(124);
  await device.killServer();
  mendTarget(0);
  await ublkOk("recover", "0", "--quiet");
  await readBlock(device.path);
}

test.each(["read", "write"])(
  "recover does not take the page cache's first block, there by a %s, for its server's answer",
  async (direction) => {
    await using device = await TestDevice.add(...faulty("swallow"));
    await using holder = holdOpen(device);
    void holder;
    const files = direction === "read" ? [device.path, "/dev/null"] : ["/dev/zero", device.path];
    const touch = ["dd", `if=${files[0]}`, `of=${files[1]}`, "bs=4k", "count=1", "conv=notrunc"];
    await runOk(...touch);
    await device.killServer();
    // A good server: what is dirty keeps nobody from recovering.
    await ublkOk("recover", "0", "--quiet");
    await runOk(...touch);
    await device.killServer();
    changeRecord(0, (record) => ({ ...record, spec: { ...record.spec, faultAtBytes: 0 } }));
    await expectLateUntilMended(device);
  },
);

test("recover of a disk whose every tag is with a server that does not answer ends in time", async () => {
  // The least depth that a disk with batch commands has.
  const depth = isBatch ? 2 : 1;
  await using device = await TestDevice.add(...faulty("swallow", `-d${depth}`));
  const requests = Array.from({ length: depth }, () => start(...ddWords(device.path, FAULT_BLOCK)));
  await untilInFlight(0, depth);
  await device.killServer();
  await expectLateUntilMended(device);
  for (const { ended } of requests) expect((await ended).exitCode).toBe(0);
});
