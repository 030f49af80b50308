// What recover, stop and del do not touch: devices that cannot be recovered, and other tools' devices.

import { afterEach, expect, test } from "bun:test";
import { chownSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";

import { parseRecord, recordText as textOf } from "../../src/device/record-text.ts";
import { killNow, readBlock, recordPath, recordText } from "../support/crash.ts";
import { buildKublk } from "../support/peer.ts";
import { leftovers, runOk, TestDevice, ublk, ublkOk, until } from "../support/program.ts";

const kublk = await buildKublk();

afterEach(() => expect(leftovers()).toEqual([]));

/** The command ends with `exitCode` and says all of `sentences`; stdout stays empty. */
async function expectRefused(words: string[], exitCode: number, ...sentences: (string | RegExp)[]) {
  const outcome = await ublk(...words);
  expect({ words, ...outcome, milliseconds: 0 }).toMatchObject({ exitCode, stdout: "" });
  for (const sentence of sentences) expect(outcome.stderr).toMatch(sentence);
}

test("a record that is missing, damaged, newer, a link, or somebody else's: 6", async () => {
  await using device = await TestDevice.add("null", "-n0");
  killNow(0);
  await device.untilState("QUIESCED");
  const path = recordPath(0);
  const good = recordText(0);
  const record = parseRecord(good, 0);
  const bad: [string, RegExp][] = [
    ["", /is not usable/],
    [good.slice(0, good.length / 2), /is not usable/],
    [good.slice(0, -3), /is not usable/],
    ["no JSON at all", /is not usable/],
    [good.replace('"queues": 1', '"queues": 3'), /is damaged, its checksum does not fit/],
    [good.replace("null", "nulm"), /is damaged, its checksum does not fit/],
    [textOf({ ...record, version: 3 } as never), /version 3, this program reads versions 1 and 2/],
    [textOf({ ...record, id: 1 }), /of device 1/],
    [textOf({ ...record, queues: 3 }), /queues is 3 there, 1 in the kernel/],
    [textOf({ ...record, flags: "0x1" }), /flags is 0x1 there, 0x[0-9a-f]+ in the kernel/],
    [textOf({ ...record, recovery: "queue" }), /recovery is queue there, reissue in the kernel/],
    [textOf({ ...record, mode: "user-copy" }), /mode is user-copy there, copy in the kernel/],
    [textOf({ ...record, bootId: "another" }), /not ours/],
    [textOf({ ...record, identity: "0123456789abcdef" }), /not ours.*another tool/],
  ];
  for (const [text, sentence] of bad) {
    expect(text).not.toBe(good);
    writeFileSync(path, text);
    await expectRefused(["recover", "0"], 6, sentence, /ublk-bun del 0 --force/);
    expect(readFileSync(path, "utf8")).toBe(text);
  }
  rmSync(path);
  writeFileSync("/tmp/record", good);
  symlinkSync("/tmp/record", path);
  await expectRefused(["recover", "0"], 6, /is a symbolic link/, /ublk-bun del 0 --force/);
  await expectRefused(["del", "0"], 6, /is a symbolic link/, /ublk-bun del 0 --force/);
  rmSync(path);
  Bun.spawnSync(["mkfifo", path]);
  await expectRefused(["recover", "0"], 6, /is not usable/, /ublk-bun del 0 --force/);
  rmSync(path);
  writeFileSync(path, good);
  chownSync(path, 1000, 1000);
  await expectRefused(["recover", "0"], 6, /belongs to user 1000/, /ublk-bun del 0 --force/);
  rmSync(path);
  await expectRefused(["recover", "0"], 6, /no record/, /ublk-bun del 0 --force/);
  await expectRefused(["stop", "0"], 6, /no record/, /--force/);
  await expectRefused(["del", "0"], 6, /no record/, /--force/);
  // All of that has changed nothing: with its record back the device is recovered.
  writeFileSync(path, good);
  expect(await ublkOk("recover", "0")).toContain("restarts 1\n");
  await readBlock(device.path);
});

test("without recovery, stopped, not there", async () => {
  await expectRefused(["recover", "0"], 3, /no such device/);
  {
    await using device = await TestDevice.add("null", "-n0", "--recovery=none");
    await expectRefused(["recover", "0"], 6, /is live: pid \d+/);
    killNow(0);
    await expectRefused(["recover", "0"], 6, /without recovery/, /ublk-bun del 0/);
    await device.untilState("DEAD");
    await expectRefused(["recover", "0"], 6, /without recovery/, /ublk-bun del 0/);
    await ublkOk("del", "0");
  }
  await using device = await TestDevice.add("null", "-n0");
  await ublkOk("stop", "0");
  await expectRefused(["recover", "0"], 6, /DEAD.*stopped/, /ublk-bun del 0/);
  expect((await device.report()).state).toBe("DEAD");
});

test("a live disk is refused by its server's socket, and without it by a server of its own", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const folder = () => readdirSync("/run/ublk-bun").toSorted();
  const log = () => readFileSync("/run/ublk-bun/0.log", "utf8");
  const [files, logged, pid] = [folder(), log(), await device.serverPid()];
  const heard = await ublk("recover", "0");
  rmSync("/run/ublk-bun/0.sock");
  const unheard = await ublk("recover", "0");
  const refusal = `ublk-bun: Device 0 is live: pid ${pid} (ublk-bun) serves /dev/ublkb0 (there is nothing to recover)\n`;
  for (const outcome of [heard, unheard]) {
    expect(outcome).toMatchObject({ exitCode: 6, stdout: "", stderr: refusal });
  }
  // Nothing is left of it: no file, no word in the disk's log.
  expect(folder()).toEqual(files.filter((name) => name !== "0.sock"));
  expect(log()).toBe(logged);
  await readBlock(device.path);
});

test("another tool's device 0 while our record lies there is touched by --force alone", async () => {
  let record = "";
  {
    await using device = await TestDevice.add("null", "-n0");
    record = recordText(0);
    await ublkOk("del", String(device.id));
  }
  const path = recordPath(0);
  for (const left of [record, undefined]) {
    await runOk(kublk, "add", "-t", "null", "-n", "0", "-q", "1");
    await using device = new TestDevice(0);
    if (left !== undefined) writeFileSync(path, left);
    const why = left === undefined ? /not ours: there is no record/ : /not ours: another tool/;
    await expectRefused(["recover", "0"], 6, /is live: pid \d+ \(kublk\)/);
    await expectRefused(["stop", "0"], 6, why, /--force/);
    await expectRefused(["del", "0"], 6, why, /--force/);
    expect(await device.report()).toMatchObject({ state: "LIVE", ours: false, target: null });
    if (left !== undefined) expect(readFileSync(path, "utf8")).toBe(left);
    await readBlock(device.path);
    if (left !== undefined) await ublkOk("stop", "0", "--force");
    await ublkOk("del", "0", "--force");
    await until("everything is gone", () => leftovers().length === 0);
  }
});

test("another tool's dead device 0 is not recovered either", async () => {
  await runOk(kublk, "add", "-t", "null", "-n", "0", "-q", "1", "-r", "1");
  await using device = new TestDevice(0);
  killNow(0);
  await device.untilState("QUIESCED");
  await expectRefused(["recover", "0"], 6, /not ours: there is no record/);
  await expectRefused(["del", "0"], 6, /not ours: there is no record/, /--force/);
  expect(await device.report()).toMatchObject({ state: "QUIESCED", serverPid: null });
});
