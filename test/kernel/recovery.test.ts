// The main promise: a killed server's disk goes on with the next one, and no request is lost.

import { afterEach, expect, test } from "bun:test";
import { copyFileSync, mkdtempSync, readFileSync, renameSync } from "node:fs";

import { batchWords } from "../support/batch.ts";
import {
  inFlight,
  killNow,
  median,
  readBlock,
  recordText,
  start,
  startUblk,
  underLoad,
} from "../support/crash.ts";
import { amount, isLong } from "../support/long.ts";
import { leftovers, program, run, TestDevice, ublk, ublkOk, until } from "../support/program.ts";

afterEach(() => expect(leftovers()).toEqual([]));

/**
 * Random reads and writes at depth 32 on each of two queues, 320 a second at most. Its pauses make it last,
 * and only while the disk is served: it cannot end before the rounds do. An I/O error ends it with a status.
 */
function startFio(path: string, requests: number) {
  const words = `--name=job --filename=${path} --rw=randrw --bs=4k --direct=1 --size=1g
    --ioengine=libaio --iodepth=32 --numjobs=2 --cpus_allowed=0,1 --cpus_allowed_policy=split
    --thread --group_reporting --output-format=json
    --number_ios=${requests} --thinktime=100ms --thinktime_blocks=32`;
  return start("fio", ...words.split(/\s+/));
}

async function expectFioOk(fio: ReturnType<typeof start>, requests: number): Promise<void> {
  const { exitCode, stdout, stderr } = await fio.ended;
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  const [job] = JSON.parse(stdout.slice(stdout.indexOf("{"))).jobs;
  expect(job.error).toBe(0);
  expect(job.read.total_ios + job.write.total_ios).toBe(2 * requests);
}

test("fio goes on through ten kills and ten recoveries in a row, and ends with 0", async () => {
  const requests = amount({ short: 10_000, long: 20_000 });
  await using device = await TestDevice.add("null", "-n0", "-q2");
  await using fio = startFio(device.path, requests);
  await until("fio's requests", () => inFlight(0) > 0);
  for (let round = 1; round <= 10; round++) {
    const killed = await underLoad(0, [fio], () => killNow(0));
    // Every other time recover meets a server that is still dying.
    if (round % 2 === 1) await expectQuiesced();
    const text = await ublkOk("recover", "0");
    const pid = Number(/daemon pid (\d+) .*state LIVE/.exec(text)?.[1]);
    expect(pid).toBeGreaterThan(0);
    expect(pid).not.toBe(killed);
    expect(text).toContain(`restarts ${round}\n`);
    expect(fio.running).toBeTrue();
    await until("fio's requests", () => inFlight(0) > 0);
  }
  await expectFioOk(fio, requests);
});

async function expectQuiesced(): Promise<void> {
  const list = () => ublkOk("list", "0");
  await until("QUIESCED", async () => /daemon pid -1 .*state QUIESCED/.test(await list()));
  const [report] = JSON.parse(await ublkOk("list", "0", "--json"));
  expect(report).toMatchObject({ state: "QUIESCED", serverPid: null });
}

test("recover of a LIVE device: refused as fast as list, nothing changed, fio undisturbed", async () => {
  await using device = await TestDevice.add("null", "-n0", "-q2");
  const requests = 3000;
  await using fio = startFio(device.path, requests);
  await until("fio's requests", () => inFlight(0) > 0);
  const snapshot = async () => ({ ...(await device.report()), inFlight: 0 });
  const before = await snapshot();
  const record = recordText(0);
  const listMs: number[] = [];
  const recoverMs: number[] = [];
  for (let round = 0; round < 7; round++) {
    listMs.push((await ublk("list", "0")).milliseconds);
    const refused = await ublk("recover", "0");
    recoverMs.push(refused.milliseconds);
    expect(refused.exitCode).toBe(6);
    expect(refused.stdout).toBe("");
    expect(refused.stderr).toContain(`live: pid ${before.serverPid} (ublk-bun) serves`);
  }
  expect(median(recoverMs) / median(listMs)).toBeLessThan(2);
  expect(await snapshot()).toEqual(before);
  expect(recordText(0)).toBe(record);
  await expectFioOk(fio, requests);
});

test("of two or five recovers at once, one works; the others name it", async () => {
  const crowds = isLong ? [2, 2, 2, 2, 5] : [2, 2, 5];
  await using device = await TestDevice.add("null", "-n0");
  for (const count of crowds) {
    killNow(0);
    const rivals = Array.from({ length: count }, () => startUblk("recover", "0", "--json"));
    const outcomes = await Promise.all(rivals.map(({ ended }) => ended));
    const winners = rivals.filter((_, i) => outcomes[i]?.exitCode === 0);
    expect(winners.length, JSON.stringify(outcomes)).toBe(1);
    const { serverPid } = await device.report();
    for (const [i, { exitCode, stderr }] of outcomes.entries()) {
      if (exitCode === 0) continue;
      // Of five, one that will lose may have the lock for its look.
      const others = rivals.filter((_, n) => n !== i).map(({ pid }) => String(pid));
      if (exitCode === 5) {
        expect(others).toContain(
          /being changed by pid (\d+) \(recover\)/.exec(stderr)?.[1] ?? stderr,
        );
      } else {
        expect(stderr).toContain(`live: pid ${serverPid} `);
        expect(exitCode).toBe(6);
      }
    }
    await readBlock(device.path);
  }
  expect((await device.report()).restarts).toBe(crowds.length);
});

test("recover during del, and del during recover: one has its way, the other says why not", async () => {
  for (let round = 0; round < 3; round++) {
    await using device = await TestDevice.add("null", "-n0");
    await device.killServer();
    const [recover, del] = [startUblk("recover", "0"), startUblk("del", "0")];
    const [recovered, deleted] = [await recover.ended, await del.ended];
    const what = JSON.stringify({ recovered, deleted });
    // The disk may go between its first server and its first read.
    const isOvertaken = deleted.exitCode === 0 && /served, and has ended/.test(recovered.stderr);
    expect([0, 3, 5, 6, ...(isOvertaken ? [1] : [])], what).toContain(recovered.exitCode);
    expect([0, 5], what).toContain(deleted.exitCode);
    expect(Math.min(recovered.exitCode, deleted.exitCode), what).toBe(0);
    if (deleted.exitCode === 0) expect(leftovers(), what).toEqual([]);
    else await readBlock(device.path);
  }
});

test("recover from another folder, after the shell has gone and the program was replaced", async () => {
  const folder = mkdtempSync("/tmp/recovery-");
  const copy = `${folder}/ublk-bun`;
  copyFileSync(program, copy);
  const add = ["./ublk-bun add null -n0 --quiet", ...batchWords].join(" ");
  const shell = await run(["sh", "-c", `${add} & wait`], { cwd: folder });
  await using device = new TestDevice(0);
  expect(shell).toMatchObject({ exitCode: 0, stderr: "" });
  copyFileSync(program, `${copy}.new`);
  renameSync(`${copy}.new`, copy);
  await readBlock(device.path, 7);
  await device.killServer();
  const recovered = await run([copy, "recover", "0", "--json"], { cwd: "/proc" });
  expect(recovered).toMatchObject({ exitCode: 0, stderr: "" });
  const { serverPid } = JSON.parse(recovered.stdout);
  expect(readFileSync(`/proc/${serverPid}/comm`, "utf8").trim()).toBe("ublk-bun");
  await readBlock(device.path, 7);
});
