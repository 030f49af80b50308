// upgrade: another server process takes a disk over while it is in use.

import { afterEach, expect, test } from "bun:test";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  writeFileSync,
} from "node:fs";

import { peek } from "../../src/device/processes.ts";
import { isBatch } from "../support/batch.ts";
import { keepBusy } from "../support/busy.ts";
import { ddWords, inFlight, killNow, readBlock, recordText, start } from "../support/crash.ts";
import { amount } from "../support/long.ts";
import {
  hasFeature,
  isProgramOf,
  leftovers,
  program,
  run,
  TestDevice,
  ublk,
  ublkOk,
  until,
} from "../support/program.ts";
import { UserFolder } from "../support/user-target.ts";
import { eventsOf } from "../support/watching.ts";

afterEach(() => expect(leftovers()).toEqual([]));

const SLOW_BLOCK = 9;
const STUCK_BLOCK = 10;

const isAskedToLetGo = () =>
  readFileSync("/run/ublk-bun/0.log", "utf8").includes("asked to let go");

/** A disk of which one block is answered once the file "go" is there, and another one never. */
function slowDisk(user: UserFolder, ...words: string[]): Promise<TestDevice> {
  const read = `read: async (offset: number, into: Uint8Array) => {
      while (offset === ${SLOW_BLOCK * 4096} && !existsSync("${user.path}/go")) await Bun.sleep(20);
      if (offset === ${STUCK_BLOCK * 4096}) await new Promise(() => {});
      into.fill(0);
    },`;
  user.target("disk.ts", read, 'import { existsSync } from "node:fs";');
  return user.add("./disk.ts", "-n0", "--io-timeout=0", ...words);
}

/** What went wrong in one upgrade of a hundred has to be given its chance: docs/recovery.md. */
const UPGRADES = amount({ short: 3, long: 100 });

test(
  "upgrades under I/O: a new server each time, no error, the pause is told",
  async () => {
    const folder = mkdtempSync("/tmp/upgrade-");
    const newer = `${folder}/ublk-bun-newer`;
    copyFileSync(program, newer);
    await using device = await TestDevice.add("null", "-n0", "-q2");
    const since = Date.now();
    const fio = keepBusy(device);
    await fio.isUnderWay();
    for (let round = 1; round <= UPGRADES; round++) {
      const oldPid = await device.serverPid();
      const binary = round === 2 ? ["--binary", newer] : [];
      const upgraded = JSON.parse(await ublkOk("upgrade", "0", "--json", ...binary));
      expect(upgraded).toEqual({
        id: 0,
        oldPid,
        serverPid: await device.serverPid(),
        pauseMs: expect.any(Number),
      });
      expect(upgraded.serverPid).not.toBe(oldPid);
      await until(
        "the old server is gone",
        async () => (await run(["kill", "-0", `${oldPid}`])).exitCode !== 0,
      );
      if (round === 2) expect(isProgramOf(upgraded.serverPid, newer)).toBe(true);
    }
    expect((await device.report()).restarts).toBe(UPGRADES);
    const told = { event: "recovered", pauseFrom: "start" };
    expect(eventsOf(0, since)).toMatchObject(Array.from({ length: UPGRADES }, () => told));
    await fio.end();
  },
  300_000 + UPGRADES * 10_000,
);

test("a request that does not end: 124, and the old server starts what it had kept", async () => {
  await using device = await TestDevice.add("fault_inject", "-n0", "-d4", "--fault=swallow");
  const pid = await device.serverPid();
  await using stuck = start(...ddWords(device.path, 262_144));
  await until("the stuck request", () => inFlight(0) === 1);
  const upgrading = ublk("upgrade", "0", "--drain-timeout", "15s");
  await until("the drain", isAskedToLetGo);
  const reads = Array.from({ length: 3 }, (_, block) => readBlock(device.path, block));
  await until("they are kept", () => inFlight(0) === 4);
  const { exitCode, stderr } = await upgrading;
  await Promise.all(reads);
  expect(stderr).toContain("did not end within 15 s");
  expect(exitCode).toBe(124);
  expect(await device.serverPid()).toBe(pid);
  await readBlock(device.path, 9);
  expect(stuck.running).toBeTrue();
  // First of all: dd cannot end before its disk does.
  await device[Symbol.asyncDispose]();
});

test("a target that does not close keeps its disk from nobody", async () => {
  using user = new UserFolder();
  for (const close of ["() => new Promise(() => {})", "() => { for (;;); }"]) {
    user.write(
      "ring.ts",
      `import { defineRingTarget } from "ublk-bun";
export default defineRingTarget({
  data: "none",
  open: () => ({ sizeBytes: 1 << 20, fds: [], close: ${close} }),
  serve: ({ queue }) => ({
    start: (tag) => queue.complete(tag, queue.lengthBytes(tag)),
    finish: () => {},
  }),
});
`,
    );
    await using device = await user.add("./ring.ts", "-n0");
    const oldPid = await device.serverPid();
    await ublkOk("upgrade", "0");
    expect(await device.serverPid()).not.toBe(oldPid);
    await readBlock(device.path);
    // It would not end by itself after a `del`.
    killNow(0);
  }
});

test("a file that is no program is told in a line, and changes nothing", async () => {
  using user = new UserFolder();
  const text = user.write("text", "no program\n");
  chmodSync(text, 0o755);
  await using device = await TestDevice.add("null", "-n0");
  const pid = await device.serverPid();
  const { exitCode, stderr } = await ublk("upgrade", "0", "--binary", text);
  expect(stderr).toMatch(/^ublk-bun: Cannot start .*\/text: .*\n$/);
  expect(exitCode).toBe(1);
  expect(await device.serverPid()).toBe(pid);
});

test("a new program that fails before its moment changes nothing", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const [pid, record] = [await device.serverPid(), recordText(0)];
  for (const [binary, code, words] of [
    ["/bin/true", 1, "exit code 0"],
    ["/bin/false", 1, "exit code 1"],
    ["/nowhere/ublk-bun", 2, "cannot be run"],
    ["/etc/passwd", 2, "cannot be run"],
  ] as const) {
    const refused = await ublk("upgrade", "0", "--binary", binary);
    expect(refused.stderr).toContain(words);
    expect(refused.exitCode).toBe(code);
  }
  expect(await device.serverPid()).toBe(pid);
  expect(recordText(0)).toBe(record);
  await readBlock(device.path);
});

test("a new program that says no and does not end is ended", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const pid = await device.serverPid();
  const folder = mkdtempSync("/tmp/upgrade-");
  writeFileSync(
    `${folder}/new`,
    `#!/bin/sh\necho $$ > ${folder}/pid\n` +
      `echo '{"kind":"error","message":"no luck","exitCode":6}' >&3\nexec sleep 1000\n`,
  );
  chmodSync(`${folder}/new`, 0o755);
  const { exitCode, stderr } = await ublk("upgrade", "0", "--binary", `${folder}/new`);
  expect(stderr).toContain("no luck");
  expect(exitCode).toBe(6);
  expect(existsSync(`/proc/${readFileSync(`${folder}/pid`, "utf8").trim()}`)).toBe(false);
  expect(await device.serverPid()).toBe(pid);
});

test("a new program that dies at its moment: the old one serves again, no I/O is lost", async () => {
  await using device = await TestDevice.add("null", "-n0", "-q2");
  const oldPid = await device.serverPid();
  const impostor = `${mkdtempSync("/tmp/upgrade-")}/impostor`;
  // It says that it is ready, hears its moment, waits until the old server has gone, and dies.
  writeFileSync(
    impostor,
    `#!/bin/sh\necho '{"kind":"ready"}' >&3\nread moment\n` +
      `while kill -0 ${oldPid} 2>/dev/null; do sleep 0.05; done\nexit 9\n`,
  );
  chmodSync(impostor, 0o755);
  const fio = keepBusy(device);
  await fio.isUnderWay();
  const { exitCode, stderr } = await ublk("upgrade", "0", "--binary", impostor);
  expect(stderr).toContain("the old program serves /dev/ublkb0 again");
  expect(exitCode).toBe(1);
  const pid = await device.serverPid();
  expect(pid).not.toBe(oldPid);
  expect(isProgramOf(pid, program)).toBe(true);
  await fio.end();
});

test("a new program that dies while the old server still ends what has begun: that one goes on", async () => {
  using user = new UserFolder();
  const impostor = user.write(
    "impostor",
    `#!/bin/sh\necho '{"kind":"ready"}' >&3\nread moment\necho $$ >${user.path}/dies\nexit 9\n`,
  );
  chmodSync(impostor, 0o755);
  await using device = await slowDisk(user);
  const pid = await device.serverPid();
  await using slow = start(...ddWords(device.path, SLOW_BLOCK));
  await until("the slow request", () => inFlight(0) === 1);
  const upgrading = ublk("upgrade", "0", "--binary", impostor);
  const dead = () => peek(() => readFileSync(`${user.path}/dies`, "utf8").trim()) ?? "";
  // Gone from there, upgrade has heard of it.
  await until("it dies", () => dead() !== "" && !existsSync(`/proc/${dead()}`) && isAskedToLetGo());
  user.write("go", "");
  const { exitCode, stderr } = await upgrading;
  expect(stderr).toContain("died while it was starting: exit code 9");
  expect(stderr).toContain("nothing was changed");
  expect(exitCode).toBe(1);
  expect(await device.serverPid()).toBe(pid);
  expect((await slow.ended).exitCode).toBe(0);
  await readBlock(device.path, 1);
});

test("queue: a request that comes too late to be tried and does not end: 124, and what to do", async () => {
  if (isBatch || !(await hasFeature("QUIESCE"))) return;
  using user = new UserFolder();
  await using device = await slowDisk(user, "--recovery=queue");
  const pid = await device.serverPid();
  await using slow = start(...ddWords(device.path, SLOW_BLOCK));
  await until("the slow request", () => inFlight(0) === 1);
  const upgrading = ublk("upgrade", "0", "--drain-timeout=15s");
  await until("the drain", isAskedToLetGo);
  await using stuck = start(...ddWords(device.path, STUCK_BLOCK));
  await until("the stuck request", () => inFlight(0) === 2);
  user.write("go", "");
  const { exitCode, stderr } = await upgrading;
  expect((await slow.ended).exitCode).toBe(0);
  expect(stderr).toContain("is not quiesced within 15 s: 1 request in flight");
  expect(stderr).toContain(`kill -9 ${pid}; ublk-bun recover 0`);
  expect(exitCode).toBe(124);
  // Held by the kernel, until somebody does what was said.
  await using waiting = start(...ddWords(device.path, 1));
  killNow(0);
  await ublkOk("recover", "0");
  expect((await waiting.ended).exitCode).toBe(0);
  expect((await stuck.ended).exitCode).not.toBe(0);
});

test("without reissue: refused with 4 where requests would fail, unless --allow-errors", async () => {
  const canQuiesce = await hasFeature("QUIESCE");
  // 6.12 does not have fail, nor anything that keeps requests back for queue.
  const failing = canQuiesce ? "fail" : "queue";
  {
    await using device = await TestDevice.add("null", "-n0", `--recovery=${failing}`);
    const pid = await device.serverPid();
    const refused = await ublk("upgrade", "0");
    expect(refused.stderr).toContain(`--recovery=${failing}`);
    expect(refused.stderr).toContain("--allow-errors");
    expect(refused.exitCode).toBe(4);
    expect(await device.serverPid()).toBe(pid);
    await ublkOk("upgrade", "0", "--allow-errors");
    expect(await device.serverPid()).not.toBe(pid);
    await readBlock(device.path);
  }
  // With --batch queue is refused, too: batch.test.ts has that.
  if (!canQuiesce || isBatch) return;
  await using device = await TestDevice.add("null", "-n0", "-q2", "--recovery=queue");
  const fio = keepBusy(device);
  await fio.isUnderWay();
  for (let round = 0; round < 3; round++) expect(await ublkOk("upgrade", "0", "--quiet")).toBe("");
  await fio.end();
});

test("what cannot be handed over is refused, and goes on being served", async () => {
  await using none = await TestDevice.add("null", "-n0", "--recovery=none");
  const pid = await none.serverPid();
  const refused = await ublk("upgrade", "0");
  expect(refused.stderr).toContain("without recovery");
  expect(refused.exitCode).toBe(4);
  expect(await none.serverPid()).toBe(pid);
  expect((await ublk("upgrade", "7")).exitCode).toBe(3);
  expect((await ublk("upgrade")).exitCode).toBe(2);
  expect((await ublk("upgrade", "0", "--all")).exitCode).toBe(2);
  expect((await ublk("upgrade", "0", "--drain-timeout=0")).exitCode).toBe(2);
  expect((await ublk("upgrade", "0", "--binary=/tmp")).exitCode).toBe(2);

  await using orphan = await TestDevice.add("null", "-n1");
  await orphan.killServer();
  await orphan.untilState("QUIESCED");
  const orphaned = await ublk("upgrade", "1");
  expect(orphaned.stderr).toContain("run: ublk-bun recover 1");
  expect(orphaned.exitCode).toBe(6);
});

test("--all: every served disk of ours, one after the other; a failure does not stop it", async () => {
  await using first = await TestDevice.add("null", "-n0");
  await using none = await TestDevice.add("null", "-n1", "--recovery=none");
  await using last = await TestDevice.add("null", "-n2");
  const before = [await first.serverPid(), await none.serverPid(), await last.serverPid()];
  const { exitCode, stdout, stderr } = await ublk("upgrade", "--all");
  expect(stdout).toMatch(/^\/dev\/ublkb0: .*pause \d+ ms\n\/dev\/ublkb2: .*pause \d+ ms\n$/);
  expect(stderr).toContain("device 1");
  expect(exitCode).toBe(4);
  const after = [await first.serverPid(), await none.serverPid(), await last.serverPid()];
  expect(after.map((pid, i) => pid === before[i])).toEqual([false, true, false]);
});

test("a queue whose every request is with the server: its death is noticed within seconds", async () => {
  const depth = isBatch ? 2 : 1;
  const words = ["fault_inject", "-n0", `-d${depth}`, "--fault=swallow"];
  await using device = await TestDevice.add(...words);
  await using stuck = start(...ddWords(device.path, 262_144));
  await using more = isBatch ? start(...ddWords(device.path, 262_144)) : undefined;
  await until("the stuck requests", () => inFlight(0) === depth);
  const timeout = readFileSync("/sys/block/ublkb0/queue/io_timeout", "utf8").trim();
  expect(timeout).toBe((await hasFeature("QUIESCE")) ? "30000" : "1000");
  killNow(0);
  await until("QUIESCED", async () => (await device.report()).state === "QUIESCED", 25_000);
  for (const { running } of more ? [stuck, more] : [stuck]) expect(running).toBeTrue();
  await device[Symbol.asyncDispose]();
});
