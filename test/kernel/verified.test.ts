// Every data mode over every target that keeps data: four queues, 128 requests deep on each, sizes from 512
// bytes to 1 MiB at any block. What fio writes it reads again, and the backing holds what the disk does.
// In a guest with four CPUs, of its own: see suite.ts.

import { afterAll, afterEach, expect, test } from "bun:test";
import { readdirSync, statSync, writeFileSync } from "node:fs";

import { expectLayout, membersIn } from "../support/members.ts";
import { leftovers, runOk, TestDevice } from "../support/program.ts";
import { Scratch } from "../support/scratch.ts";
import { dataModes, QUEUES, verifyMixed } from "../support/verify.ts";

const MIB = 1024 ** 2;

const scratch = await Scratch.make(["mkfs.ext4", "-q"], 128 * MIB);

afterEach(() => expect(leftovers()).toEqual([]));
afterAll(() => scratch[Symbol.asyncDispose]());

/** A disk whose queues' threads all serve what fio verifies. */
async function verified(...words: string[]): Promise<TestDevice> {
  const device = await TestDevice.add(...words, "-n0", "-q4", "-d128", "--io-buf-size=1M");
  const before = await device.ranNs();
  expect(before).toHaveLength(QUEUES);
  await verifyMixed(device.path);
  const after = await device.ranNs();
  for (const [queue, ran] of after.entries()) expect(ran).toBeGreaterThan(before[queue]!);
  return device;
}

const file = scratch.file("disk", 24 * MIB);
// Three, so that a row is no power of two; small chunks, so that most requests are vectored.
const three = membersIn(scratch, 3, 8 * MIB + 5000);
// What is tested is the way of the data, not how the file system finds room for it.
for (const path of [file, ...three.files]) {
  writeFileSync(path, new Uint8Array(statSync(path).size), { flush: true });
}

for (const mode of await dataModes()) {
  test(`loop ${mode}: what is written is read back, and is what the file holds`, async () => {
    await using device = await verified("loop", "-f", file, mode);
    await runOk("cmp", device.path, file);
  });

  test(`mem ${mode}: what is written is read back, and is what memory holds`, async () => {
    await using device = await verified("mem", "--size=24MiB", mode);
    const memory = readdirSync("/dev/shm").find((name) => name.startsWith("ublk-bun-"));
    await runOk("cmp", device.path, `/dev/shm/${memory}`);
  });

  test(`stripe ${mode}: what is written is read back, and lies where it belongs`, async () => {
    await using device = await verified("stripe", "--chunk-size=4KiB", ...three.words, mode);
    expect((await device.report()).sizeBytes).toBe(3 * (8 * MIB + 4096));
    await expectLayout(device.path, three.files, 4096);
  });
}
