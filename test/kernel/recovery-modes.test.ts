// What an application sees of a crash in each --recovery mode, and of stop and del while it waits.

import { afterEach, expect, test } from "bun:test";
import { existsSync } from "node:fs";

import {
  ddWords,
  killNow,
  mendTarget,
  readBlock,
  start,
  untilInFlight,
  untilWaiting,
} from "../support/crash.ts";
import { hasFeature, leftovers, TestDevice, ublk, ublkOk, until } from "../support/program.ts";

const FAULT_BLOCK = 1000;
const OTHER_BLOCK = 5;

afterEach(() => expect(leftovers()).toEqual([]));

/** A disk of three tags whose server takes requests for block FAULT_BLOCK and never answers them. */
const addSwallowing = (recovery: string) =>
  TestDevice.add(
    "fault_inject",
    "-n0",
    "-d3",
    "--fault=swallow",
    `--fault-at=${FAULT_BLOCK * 4096}`,
    `--recovery=${recovery}`,
  );

/** Requests that the server has taken, one for each tag, and one that waits for a tag. */
async function requests(device: TestDevice) {
  const read = start(...ddWords(device.path, FAULT_BLOCK));
  const write = start(...ddWords(device.path, FAULT_BLOCK, "write"));
  await untilInFlight(device.id, 2);
  // It answers what comes after them.
  await readBlock(device.path, OTHER_BLOCK);
  const third = start(...ddWords(device.path, FAULT_BLOCK));
  await untilInFlight(device.id, 3);
  const undelivered = start(...ddWords(device.path, OTHER_BLOCK));
  await untilWaiting(undelivered, device.path);
  return { delivered: [read, write, third], undelivered };
}

async function expectFailed(
  { ended }: ReturnType<typeof start>,
  why: string | RegExp = "Input/output error",
): Promise<void> {
  expect(await ended).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(why) });
}

const expectOk = async ({ ended }: ReturnType<typeof start>) =>
  expect(await ended).toMatchObject({ exitCode: 0, stderr: "" });

test("reissue: what the dead server had, and what came later, is done by the next one", async () => {
  await using device = await addSwallowing("reissue");
  const { delivered, undelivered } = await requests(device);
  killNow(0);
  await device.untilState("QUIESCED");
  const later = start(...ddWords(device.path, OTHER_BLOCK));
  await untilWaiting(later, device.path);
  mendTarget(0);
  const all = [...delivered, undelivered, later];
  expect(all.every(({ running }) => running)).toBeTrue();
  await ublkOk("recover", "0");
  for (const dd of all) await expectOk(dd);
});

test("queue: what the dead server had fails, what came later is done by the next one", async () => {
  await using device = await addSwallowing("queue");
  const { delivered, undelivered } = await requests(device);
  killNow(0);
  for (const dd of delivered) await expectFailed(dd);
  await device.untilState("QUIESCED");
  const later = start(...ddWords(device.path, OTHER_BLOCK));
  await untilWaiting(later, device.path);
  expect(undelivered.running).toBeTrue();
  await ublkOk("recover", "0");
  for (const dd of [undelivered, later]) await expectOk(dd);
});

test("fail: all fail at once, and recover brings the disk back; 6.12 does not have it", async () => {
  if (!(await hasFeature("USER_RECOVERY_FAIL_IO"))) {
    const { exitCode, stderr } = await ublk("add", "null", "--recovery=fail");
    expect(exitCode).toBe(4);
    expect(stderr).toMatch(/does not have --recovery=fail .*Linux 6\.13/);
    return;
  }
  await using device = await addSwallowing("fail");
  const { delivered, undelivered } = await requests(device);
  killNow(0);
  for (const dd of delivered) await expectFailed(dd);
  // As the delivered, or, where it reaches the driver after the death, as what comes later: EREMOTEIO.
  await expectFailed(undelivered, /Input\/output error|Remote I\/O error/);
  await device.untilState("FAIL_IO");
  await expectFailed(start(...ddWords(device.path, OTHER_BLOCK)), "Remote I/O error");
  expect(await ublkOk("recover", "0")).toContain("state LIVE");
  await readBlock(device.path, OTHER_BLOCK);
});

test("none: all fail, the disk goes away, and only del is left", async () => {
  await using device = await addSwallowing("none");
  const { delivered, undelivered } = await requests(device);
  killNow(0);
  for (const dd of [...delivered, undelivered]) await expectFailed(dd);
  await until("the disk is gone", () => !existsSync(device.path));
  const later = await start(...ddWords(device.path, OTHER_BLOCK)).ended;
  expect(later.stderr).toContain("No such file");
  await device.untilState("DEAD");
  expect((await ublk("recover", "0")).exitCode).toBe(6);
  await ublkOk("del", "0");
});

test.each(["stop", "del"])("%s of a QUIESCED disk with I/O waiting", async (verb) => {
  await using device = await TestDevice.add("null", "-n0");
  killNow(0);
  await device.untilState("QUIESCED");
  const waiting = start(...ddWords(device.path, OTHER_BLOCK));
  await untilWaiting(waiting, device.path);
  const refused = await ublk(verb, "0");
  expect(refused).toMatchObject({ exitCode: 5, stdout: "" });
  expect(refused.stderr).toContain(`open in pid ${waiting.pid} (dd)`);
  expect(waiting.running).toBeTrue();
  expect((await device.report()).state).toBe("QUIESCED");
  await ublkOk(verb, "0", "--force");
  const { exitCode, stderr } = await waiting.ended;
  expect({ exitCode, stderr }).toMatchObject({ exitCode: 1 });
  if (verb === "stop") expect((await device.report()).state).toBe("DEAD");
  else expect(leftovers()).toEqual([]);
});
