// A ring target as functions, and what a filter may ask of the disk below it.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { Disk } from "ublk-bun";

import { liburingPath } from "../../src/ffi/liburing.ts";
import { below } from "../../src/filters/below.ts";
import { liftTarget } from "../../src/filters/open.ts";
import { over } from "../../src/filters/over.ts";
import { geometryOf } from "../../src/script/disk.ts";
import { findTarget } from "../../src/targets/index.ts";

const SIZE = 8 * 1024 ** 2;
let folder = "";

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ublk-bun-lift-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function lifted(name: string, args: object) {
  const target = findTarget(name);
  const spec = target.parse(args as never);
  const context = { deviceId: -1, identity: "f".repeat(16), isNew: true, note: () => {} };
  const { geometry, facts, fds, ...backing } = await target.open(spec, context);
  const close = async () => void (await backing[Symbol.asyncDispose]());
  const liburing = liburingPath();
  return liftTarget({ target: name, spec, geometry, facts, fds, liburing, close, note: () => {} });
}

function loop(name: string) {
  const file = join(folder, name);
  writeFileSync(file, "");
  truncateSync(file, SIZE);
  return { file, layer: lifted("loop", { file, offset: "0", discard: true }) };
}

test("a request longer than one of the target's becomes several; many more than it takes wait", async () => {
  const { file, layer } = loop("long");
  const { disk } = await layer;
  const data = crypto.getRandomValues(new Uint8Array(65_536));
  const all = new Uint8Array(SIZE).map((_, i) => data[i % data.length]!);
  await disk.write!(0, all, { fua: true });
  expect(Bun.hash(readFileSync(file))).toBe(Bun.hash(all));
  const into = new Uint8Array(SIZE);
  const blocks = Array.from({ length: 1000 }, (_, i) => i * 4096);
  await Promise.all(blocks.map((at) => disk.read(at, into.subarray(at, at + 4096))));
  expect(Bun.hash(into.subarray(0, 4_096_000))).toBe(Bun.hash(all.subarray(0, 4_096_000)));
  await disk.close!();
});

test("memory that is taken away from a late request is not touched, and the others go on", async () => {
  const { disk } = await loop("late").layer;
  const buffer = new ArrayBuffer(4096);
  const late = disk.read(0, new Uint8Array(buffer));
  buffer.transfer();
  await late;
  const into = new Uint8Array(4096).fill(1);
  await disk.read(0, into);
  expect(into.every((byte) => byte === 0)).toBe(true);
  await disk.close!();
});

test("what a target refuses is an errno; a target that completes at once is fine", async () => {
  const faulty = await lifted("fault_inject", {
    size: "1MiB",
    fault: "eio",
    "fault-at": "0",
    "delay-us": "0",
    "error-rate": "0",
    seed: "1",
    "die-after": "0",
    "die-during-fetch": "0",
  });
  await expect(faulty.disk.read(0, new Uint8Array(512))).rejects.toThrow("EIO");
  const reads = Array.from({ length: 300 }, () => faulty.disk.read(4096, new Uint8Array(512)));
  expect(await Promise.all(reads)).toHaveLength(300);
  await faulty.disk.close!();
});

/** A disk that counts what it is called for. */
function counting(more: Partial<Disk> = {}) {
  const calls: string[] = [];
  const disk: Disk = {
    sizeBytes: 65_536,
    read: () => void calls.push("read"),
    write: (_offset, _from) => void calls.push("write"),
    flush: () => void calls.push("flush"),
    ...more,
  };
  return { calls, layer: { disk, geometry: geometryOf(disk) } };
}

test("a durable write below a disk that does not heed it is a write and a flush", async () => {
  const { calls, layer } = counting();
  await below(layer.disk, layer.geometry).write(0, new Uint8Array(512), { fua: true });
  expect(calls).toEqual(["write", "flush"]);
});

test("what is not whole blocks of the disk below, or beyond it, never reaches it", async () => {
  const { calls, layer } = counting();
  const lower = below(layer.disk, layer.geometry);
  const into = (length: number) => new Uint8Array(length);
  await expect(lower.read(100, into(512))).rejects.toThrow("EINVAL: read of 512 bytes at 100");
  await expect(lower.read(0, into(100))).rejects.toThrow("EINVAL");
  await expect(lower.write(65_536, into(512))).rejects.toThrow("EINVAL");
  await expect(lower.discard(0, 512)).rejects.toThrow("EOPNOTSUPP");
  expect(calls).toEqual([]);
});

test("a read that is short, or any number in place of an exception, fails above", async () => {
  const into = new Uint8Array(512);
  for (const done of [100, -28]) {
    const { disk, geometry } = counting({ read: () => done }).layer;
    const said = `EIO: read of the disk below returned ${done}: it must return nothing, or 512`;
    await expect(below(disk, geometry).read(0, into)).rejects.toThrow(said);
  }
});

test("what carries no data, and returns something below, fails above", async () => {
  async function* generator() {
    yield 1;
  }
  const wrong = {
    flush: generator as never,
    discard: () => true as never,
    writeZeroes: (_offset: number, length: number) => length as never,
  };
  const { disk, geometry } = counting(wrong).layer;
  const lower = below(disk, geometry);
  const said = "of the disk below returned";
  await expect(lower.flush()).rejects.toThrow(`EIO: flush ${said} something of type object`);
  await expect(lower.write(0, new Uint8Array(512), { fua: true })).rejects.toThrow("flush");
  await expect(lower.discard(0, 512)).rejects.toThrow(`discard ${said} something of type boolean`);
  await expect(lower.writeZeroes(0, 512)).rejects.toThrow(`writeZeroes ${said} 512`);
});

test("what a filter leaves out is below; what the disk below cannot do is not made up", () => {
  const readOnly = counting({ readOnly: true }).layer;
  const lower = below(readOnly.disk, readOnly.geometry);
  const plain = over({ write: () => {}, discard: () => {} }, readOnly, lower).geometry;
  expect(plain).toMatchObject({ readOnly: true, volatileCache: false });
  const bold = { write: () => {}, discard: () => {}, readOnly: false, maxDiscardBytes: 4096 };
  const { geometry } = over(bold, readOnly, lower);
  expect(geometry).toMatchObject({ readOnly: false, fua: false, sizeBytes: 65_536 });
  expect(geometry.discard).toEqual({ maxBytes: 4096, granularityBytes: 512 });
});

test("a disk without cache, discard and writeZeroes has none under a filter that has nothing", () => {
  const disk: Disk = { sizeBytes: 65_536, read: () => {}, write: () => {} };
  const layer = { disk, geometry: geometryOf(disk) };
  expect(over({}, layer, below(disk, layer.geometry)).geometry).toEqual(layer.geometry);
  const full = counting({ discard: () => {}, writeZeroes: () => {}, maxDiscardBytes: 8192 }).layer;
  const through = over({}, full, below(full.disk, full.geometry)).geometry;
  expect(through).toEqual(full.geometry);
});

test("close closes the filter first, then the disk below", async () => {
  const calls: string[] = [];
  const { layer } = counting({ close: () => void calls.push("below") });
  const lower = below(layer.disk, layer.geometry);
  await over({ close: () => void calls.push("filter") }, layer, lower).disk.close!();
  expect(calls).toEqual(["filter", "below"]);
});
