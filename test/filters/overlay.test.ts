// The overlay of --filter cow over a medium that loses power at any moment: what was flushed is there,
// and nothing is found that nobody wrote.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { dataLabel, fillBlocks, labelOf, ZEROES } from "../../src/check/content.ts";
import { Model } from "../../src/check/model.ts";
import { openOverlayFile } from "../../src/filters/overlay-file.ts";
import { layoutOf, LOST_AT, Overlay } from "../../src/filters/overlay.ts";
import { FakeMedium } from "../support/fake-medium.ts";
import { amount } from "../support/long.ts";
import { chooseSeed, seeded } from "../support/seeded.ts";

const BLOCK = 512;
/** More than a page of the map: 4096 x 8 blocks. */
const BLOCKS = 40_000;
const SHAPE = { sizeBytes: BLOCKS * BLOCK, blockBytes: BLOCK };
const { recentAt } = layoutOf(SHAPE);
/** The blocks that are used: around the border of two pages, and of bytes. */
const FIRST = 32_760;
const USED = 24;
const SEED = 7;

let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ublk-bun-overlay-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The disk below: its blocks hold what "version 0" put there. */
async function below(offset: number, into: Uint8Array): Promise<void> {
  await undefined;
  const filling = { seed: SEED, version: 0, first: offset / BLOCK, blockBytes: BLOCK };
  fillBlocks(into, filling);
}

function newModel(isVolatile: boolean): Model {
  const model = new Model({ blockBytes: BLOCK, isVolatile });
  for (let i = 0; i < USED; i++) model.adopt(FIRST + i, dataLabel(0, FIRST + i));
  return model;
}

interface Place {
  readonly first: number;
  readonly blocks: number;
}

class Disk {
  readonly overlay: Overlay;
  /** Its server is dead: nobody hears its answers. */
  isOver = false;
  /** Somebody has zeroed blocks. */
  isZeroed = false;
  readonly #model: Model;
  readonly #random: () => number;

  constructor(file: FakeMedium, model: Model, random: () => number) {
    this.overlay = new Overlay(file, SHAPE);
    this.#model = model;
    this.#random = random;
  }

  place(): Place {
    const blocks = 1 + Math.floor(this.#random() ** 2 * 12);
    return { first: FIRST + Math.floor(this.#random() * (USED - blocks + 1)), blocks };
  }

  async write({ first, blocks }: Place): Promise<void> {
    const version = this.#model.begin("data", first, blocks);
    const data = new Uint8Array(blocks * BLOCK);
    fillBlocks(data, { seed: SEED, version, first, blockBytes: BLOCK });
    await this.overlay.write(first * BLOCK, data);
    if (this.isOver) return;
    this.#model.end(version, false);
  }

  async zero({ first, blocks }: Place): Promise<void> {
    const version = this.#model.begin("zeroes", first, blocks);
    await this.overlay.zero(first * BLOCK, blocks * BLOCK, { mayUnmap: true });
    if (this.isOver) return;
    this.#model.end(version, false);
  }

  async flush(): Promise<void> {
    const mark = this.#model.mark();
    await this.overlay.flush();
    if (this.isOver) return;
    this.#model.endFlush(mark);
  }

  async compare({ first, blocks }: Place): Promise<void> {
    const mark = this.#model.mark();
    const into = new Uint8Array(blocks * BLOCK).fill(0xee);
    await this.overlay.read(first * BLOCK, into, below);
    if (this.isOver) return;
    for (let i = 0; i < blocks; i++) {
      const label = labelOf(into.subarray(i * BLOCK, (i + 1) * BLOCK), SEED);
      // Not even of a write that nobody has answered may there be a part, or the hole that it was to fill.
      const isStrange = label !== dataLabel(parseInt(label, 10), first + i);
      if (isStrange && !(label === ZEROES && this.isZeroed)) throw new Error(`strange: ${label}`);
      const problem = this.#model.judge(first + i, label, mark);
      if (problem !== undefined) throw new Error(problem);
    }
  }
}

/** Requests of all kinds at once, a few of them still under way when it returns. */
async function load(disk: Disk, random: () => number, isZeroing: boolean): Promise<void> {
  const requests: Promise<void>[] = [];
  for (let n = 2 + Math.floor(random() * 16); n > 0; n--) {
    const place = disk.place();
    const kind = random();
    if (kind < 0.5) requests.push(disk.write(place));
    else if (kind < 0.6 && isZeroing) requests.push(disk.zero(place));
    else if (kind < 0.75) requests.push(disk.flush());
    else requests.push(disk.compare(place));
    for (let ticks = Math.floor(random() * 4); ticks > 0; ticks--) await undefined;
    if (random() < 0.1) await Promise.all(requests.splice(0));
  }
  for (let ticks = Math.floor(random() * 40); ticks > 0; ticks--) await undefined;
  // Failures of what is cut off are nobody's.
  for (const request of requests) request.catch(() => {});
}

const WHOLE = { first: FIRST, blocks: USED };

test("power fails at any moment, again and again: flushed data is there, and nothing strange", async () => {
  const random = seeded(chooseSeed());
  for (let round = 0; round < amount({ short: 300, long: 5000 }); round++) {
    const model = newModel(true);
    let file = new FakeMedium(random);
    for (let boot = 0; boot < 4; boot++) {
      const disk = new Disk(file, model, random);
      disk.isZeroed = round % 2 === 0;
      await disk.compare(WHOLE);
      await load(disk, random, disk.isZeroed);
      model.crash();
      disk.isOver = true;
      // As open does with an overlay of another boot.
      file = file.powerFails(recentAt);
    }
  }
}, 60_000);

test("kill -9 loses nothing that was answered, and the next server's flush counts for it too", async () => {
  const random = seeded(chooseSeed());
  for (let round = 0; round < 20; round++) {
    const model = newModel(false);
    const file = new FakeMedium(random);
    for (let server = 0; server < 4; server++) {
      const disk = new Disk(file, model, random);
      await disk.compare(WHOLE);
      for (let n = 0; n < 6; n++) await disk.write(disk.place());
      if (random() < 0.3) await disk.flush();
      model.crash();
    }
    const last = new Disk(file, model, random);
    await last.flush();
    await last.compare(WHOLE);
    await new Disk(file.powerFails(recentAt), model, random).compare(WHOLE);
  }
});

test("a server that opens while another still serves sees what that one writes afterwards", async () => {
  const model = newModel(false);
  const file = new FakeMedium(seeded(1));
  const old = new Disk(file, model, seeded(2));
  const next = new Disk(file, model, seeded(3));
  next.isZeroed = true;
  await old.write(WHOLE);
  await old.flush();
  await next.compare(WHOLE);
  await old.zero({ first: FIRST + 3, blocks: 2 });
  await next.compare(WHOLE);
});

test("zeroes are zeroes, though the disk below has data there", async () => {
  const file = new FakeMedium(seeded(1));
  const overlay = new Overlay(file, SHAPE);
  await overlay.zero(5 * BLOCK, 2 * BLOCK, { mayUnmap: true });
  const into = new Uint8Array(4 * BLOCK);
  await overlay.read(4 * BLOCK, into, below);
  const labels = [0, 1, 2, 3].map((i) => labelOf(into.subarray(i * BLOCK, (i + 1) * BLOCK), SEED));
  expect(labels).toEqual([dataLabel(0, 4), ZEROES, ZEROES, dataLabel(0, 7)]);
});

test("after a sync that has failed no flush succeeds: the kernel has forgotten what it lost", async () => {
  const file = new FakeMedium(seeded(1));
  const overlay = new Overlay(file, SHAPE);
  await overlay.write(0, new Uint8Array(BLOCK).fill(1));
  file.failures = 1;
  await expect(overlay.flush()).rejects.toThrow("the medium is broken");
  await expect(overlay.flush()).rejects.toThrow("the medium is broken");
  // Nor one of the next server, which the kernel tells nothing.
  const next = new Overlay(file, SHAPE);
  const said = "EIO: what was written before this server came did not reach the medium";
  await expect(next.flush()).rejects.toThrow(said);
  await expect(next.flush()).rejects.toThrow(said);
});

test("what a sync has lost is lost until the next boot, which reads what was flushed before", async () => {
  const path = join(folder, "overlay");
  const shape = { sizeBytes: 1024 ** 2, blockBytes: BLOCK };
  const open = async (isNew: boolean) =>
    new Overlay(await openOverlayFile(path, { ...shape, isNew }), shape);
  const first = await open(true);
  await first.write(0, new Uint8Array(BLOCK).fill(1));
  await first.close();
  const file = openSync(path, "r+");
  writeSync(file, Uint8Array.of(1), 0, 1, LOST_AT);
  const next = await open(false);
  await expect(next.flush()).rejects.toThrow("did not reach the medium");
  await next.close();
  const header = readFileSync(path, "utf8").slice(0, LOST_AT);
  const bootId = (JSON.parse(header.replace(/\0+$/, "")) as { bootId: string }).bootId;
  writeSync(file, header.replace(bootId, "0".repeat(bootId.length)), 0);
  closeSync(file);
  const later = await open(true);
  await later.flush();
  const into = new Uint8Array(BLOCK);
  await later.read(0, into, below);
  expect(labelOf(into, SEED)).toBe(dataLabel(0, 0));
  await later.close();
});

test("it is a write that finds no space for its bits, not the flush of what was answered", async () => {
  const file = new FakeMedium(seeded(1));
  const overlay = new Overlay(file, SHAPE);
  const block = new Uint8Array(BLOCK).fill(1);
  await overlay.write(FIRST * BLOCK, block);
  file.isFull = true;
  // Its bit is in the same page; the other's is in the next one.
  await overlay.write((FIRST + 1) * BLOCK, block);
  await expect(overlay.write((FIRST + 8) * BLOCK, block)).rejects.toThrow("no space left");
  await overlay.flush();
  const into = new Uint8Array(BLOCK);
  await overlay.read((FIRST + 8) * BLOCK, into, below);
  expect(labelOf(into, SEED)).toBe(dataLabel(0, FIRST + 8));
});
