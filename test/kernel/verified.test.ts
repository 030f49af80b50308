// Every data mode over every target that keeps data: four queues, 128 requests deep on each, sizes from 512
// bytes to 1 MiB at any block. What fio writes it reads again, and the backing holds what the disk does.
// In a guest with four CPUs, of its own: see suite.ts.

import { afterAll, afterEach, expect, test } from "bun:test";
import { statSync, writeFileSync } from "node:fs";

import { expectLayout, membersIn } from "../support/members.ts";
import { leftovers, runOk, TestDevice, ublkOk } from "../support/program.ts";
import { Scratch } from "../support/scratch.ts";
import { dataModes, QUEUES, verifyMixed } from "../support/verify.ts";

const MIB = 1024 ** 2;

const scratch = await Scratch.make(["mkfs.ext4", "-q"], 128 * MIB);

afterEach(() => expect(leftovers()).toEqual([]));
afterAll(() => scratch[Symbol.asyncDispose]());

const file = scratch.file("disk", 24 * MIB);
// Three, so that a row is no power of two; small chunks, so that most requests are vectored.
const three = membersIn(scratch, 3, 8 * MIB + 5000);
// What is tested is the way of the data, not how the file system finds room for it.
for (const path of [file, ...three.files]) {
  writeFileSync(path, new Uint8Array(statSync(path).size), { flush: true });
}

test.each(await dataModes())(
  "%s: loop, mem and stripe at once: what is written is read back, and lies where it belongs",
  async (mode) => {
    const add = (...words: string[]) =>
      TestDevice.add(...words, "-q4", "-d128", "--io-buf-size=1M", mode);
    await using loop = await add("loop", "-n0", "-f", file);
    await using mem = await add("mem", "-n1", "--size=24MiB");
    await using stripe = await add("stripe", "-n2", "--chunk-size=4KiB", ...three.words);
    expect((await stripe.report()).sizeBytes).toBe(3 * (8 * MIB + 4096));
    const disks = [loop, mem, stripe];
    const ran = async () => (await Promise.all(disks.map((disk) => disk.ranNs()))).flat();

    const before = await ran();
    expect(before).toHaveLength(disks.length * QUEUES);
    await verifyMixed(...disks.map(({ path }) => path));
    for (const [queue, ns] of (await ran()).entries()) expect(ns).toBeGreaterThan(before[queue]!);

    await runOk("cmp", loop.path, file);
    await runOk("cmp", mem.path, `/dev/shm/ublk-bun-${(await mem.report()).identity}`);
    await expectLayout(stripe.path, three.files, 4096);
    // All with one command: starting it is what takes the time.
    await ublkOk("del", "--all");
  },
);
