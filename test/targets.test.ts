// Conformance of every target in the registry, without a kernel. A new target is tested by being there.

import { expect, test } from "bun:test";
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { parseArgs } from "citty";

import { strictWords } from "../src/cli/strict.ts";
import { toParams } from "../src/device/params.ts";
import { RWF } from "../src/ffi/block.ts";
import { ERRNO } from "../src/ffi/errno.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../src/ffi/ublk.ts";
import { KIND } from "../src/queue/tag.ts";
import type { Backing, Spec, Target } from "../src/target.ts";
import { findTarget, targets as loaders } from "../src/targets/index.ts";
import { FakeQueue, type Request } from "./support/fake-queue.ts";
import { LocalQueue } from "./support/local-queue.ts";
import { chooseSeed, seeded } from "./support/seeded.ts";
import { Shadow } from "./support/shadow.ts";

const MIB = 1024 ** 2;
const DEPTH = 16;
const IO_BUF_BYTES = 512 * 1024;
const context = { deviceId: 0, identity: "0123456789abcdef", isNew: true, note: () => {} };

/** What a target needs to be opened here, where it has a required option: a disk of 8 MiB. */
const WORDS: Readonly<Record<string, (folder: string) => string[]>> = {
  loop: (folder) => ["--file", emptyFile(folder, "disk", 8 * MIB)],
  mem: () => ["--size", "8MiB"],
  stripe: (folder) => ["a", "b", "c"].flatMap((name) => ["-f", emptyFile(folder, name, 3 * MIB)]),
};

function emptyFile(folder: string, name: string, sizeBytes: number): string {
  const path = join(folder, name);
  closeSync(openSync(path, "a"));
  truncateSync(path, sizeBytes);
  return path;
}

/** A target's words in a folder of its own, which goes at the end. */
class Case implements AsyncDisposable {
  readonly folder = mkdtempSync(join(tmpdir(), "ublk-bun-targets-"));
  readonly target: Target;
  readonly spec: Spec;

  constructor(target: Target, ...more: string[]) {
    this.target = target;
    const words = [...(WORDS[target.name]?.(this.folder) ?? []), ...more];
    this.spec = target.parse(parseArgs(strictWords(words, target.args), target.args));
  }

  open(isNew = true): Promise<Backing> {
    return this.target.open(this.spec, { ...context, isNew });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.target.remove?.(this.spec, context);
    rmSync(this.folder, { recursive: true });
  }
}

const requests: readonly Request[] = [
  { op: UBLK_IO_OP.READ, offsetBytes: 0, lengthBytes: 4096 },
  { op: UBLK_IO_OP.READ, offsetBytes: 4096, lengthBytes: 512 },
  { op: UBLK_IO_OP.WRITE, offsetBytes: 8192, lengthBytes: 65536 },
  { op: UBLK_IO_OP.FLUSH, offsetBytes: 2 ** 53, lengthBytes: 0 },
  { op: UBLK_IO_OP.DISCARD, offsetBytes: 0, lengthBytes: 1024 ** 2 },
  { op: UBLK_IO_OP.WRITE_ZEROES, offsetBytes: 0, lengthBytes: 1024 ** 2 },
  { op: UBLK_IO_OP.ZONE_OPEN, offsetBytes: 0, lengthBytes: 0 },
];

/** Rule 2 of the house: the whole length, 0 where there is no data, or an errno; never less. */
function isWholeAnswer({ op, lengthBytes }: Request, result: number): boolean {
  const hasData = op === UBLK_IO_OP.READ || op === UBLK_IO_OP.WRITE;
  return result < 0 ? result > -134 : result === (hasData ? lengthBytes : 0);
}

const targets = Object.values(loaders).map((load) => load());

for (const target of targets) {
  test(`${target.name}: its name and summary say what it is`, () => {
    expect(target.name).toMatch(/^[a-z][a-z0-9_]*$/);
    expect(target.summary.length).toBeGreaterThan(10);
    expect(findTarget(target.name)).toBe(target);
  });

  test(`${target.name}: its spec is plain JSON and its geometry is one the kernel takes`, async () => {
    await using it = new Case(target);
    expect(JSON.parse(JSON.stringify(it.spec))).toEqual(it.spec);
    await using backing = await it.open();
    const { geometry } = backing;
    expect(geometry.sizeBytes % geometry.logicalBlockBytes).toBe(0);
    expect(geometry.logicalBlockBytes).toBeGreaterThanOrEqual(512);
    expect(geometry.logicalBlockBytes).toBeLessThanOrEqual(4096);
    expect(geometry.physicalBlockBytes).toBeGreaterThanOrEqual(geometry.logicalBlockBytes);
    expect(toParams(geometry, 524288).basic_max_sectors).toBeGreaterThanOrEqual(8);
    expect(JSON.parse(JSON.stringify(backing.facts))).toEqual(backing.facts);
  });
}

const local = (it: Case, backing: Backing, onResult?: (result: number) => number) =>
  LocalQueue.of({
    target: it.target,
    spec: it.spec,
    backing,
    depth: DEPTH,
    ioBufBytes: IO_BUF_BYTES,
    ...(onResult && { onResult }),
  });

for (const target of targets.filter(({ data }) => data !== "transfer")) {
  test(`${target.name}: answers every request once, wholly or with an errno`, async () => {
    await using it = new Case(target);
    await using backing = await it.open();
    const fake = new FakeQueue({ id: 0, depth: requests.length });
    const { facts, fds } = backing;
    fake.prime(target.serve(it.spec, { facts, fds, queue: fake.queue }));
    for (const [tag, request] of requests.entries()) {
      fake.deliver(tag, request);
      const [answer, ...more] = fake.submitted();
      expect(more).toEqual([]);
      expect(answer).toMatchObject({ operation: "commit", tag });
      expect(isWholeAnswer(request, answer!.result), `op ${request.op}`).toBe(true);
    }
  });
}

for (const target of targets.filter(({ data }) => data === "transfer")) {
  test(`${target.name}: answers every request once, wholly or with an errno`, async () => {
    await using it = new Case(target);
    await using backing = await it.open();
    using queue = local(it, backing);
    for (const [tag, request] of requests.entries()) queue.deliver(tag, request);
    const answers = queue.settle();
    for (const [tag, request] of requests.entries()) {
      expect(isWholeAnswer(request, answers.get(tag)!), `op ${request.op}`).toBe(true);
    }
    expect(answers.get(requests.length - 1)).toBe(-ERRNO.EOPNOTSUPP);
  });

  test(`${target.name}: keeps what is written, for the next server too`, async () => {
    await using it = new Case(target);
    const random = seeded(chooseSeed());
    let written: Uint8Array = new Uint8Array();
    {
      await using backing = await it.open();
      using queue = local(it, backing);
      const { geometry } = backing;
      const common = { geometry, depth: DEPTH, ioBufBytes: IO_BUF_BYTES, random };
      const shadow = new Shadow({ local: queue, ...common });
      for (let i = 0; i < 40; i++) shadow.round();
      shadow.compare();
      written = shadow.bytes;
    }
    await using backing = await it.open(false);
    using queue = local(it, backing);
    for (let at = 0; at < written.length; at += IO_BUF_BYTES) {
      const found = queue.read(at, Math.min(IO_BUF_BYTES, written.length - at)) as Uint8Array;
      expect(Buffer.compare(found, written.subarray(at, at + IO_BUF_BYTES))).toBe(0);
    }
  });

  test(`${target.name}: finishes what its backing does only in part`, async () => {
    await using it = new Case(target);
    const random = seeded(chooseSeed());
    await using backing = await it.open();
    const { geometry } = backing;
    // Sometimes half a block, sometimes less than a block, sometimes nothing but a signal.
    const shorten = (result: number) => {
      if (result <= 0) return result;
      const dice = random();
      if (dice < 0.1) return -ERRNO.EINTR;
      if (dice < 0.2) return -ERRNO.EAGAIN;
      return dice < 0.6 && result > 1024 ? 512 + Math.floor(random() * (result - 512)) : result;
    };
    using queue = local(it, backing, shorten);
    const common = { geometry, depth: DEPTH, ioBufBytes: IO_BUF_BYTES, random };
    const shadow = new Shadow({ local: queue, ...common });
    for (let i = 0; i < 20; i++) shadow.round();
    shadow.compare();
  });

  test(`${target.name}: the first and the last block, the largest request, the later write wins`, async () => {
    await using it = new Case(target);
    await using backing = await it.open();
    using queue = local(it, backing);
    const { sizeBytes, logicalBlockBytes } = backing.geometry;
    const places = [
      [0, logicalBlockBytes],
      [sizeBytes - logicalBlockBytes, logicalBlockBytes],
      [0, IO_BUF_BYTES],
      [sizeBytes - IO_BUF_BYTES, IO_BUF_BYTES],
      [logicalBlockBytes, IO_BUF_BYTES - logicalBlockBytes],
    ] as const;
    for (const [offsetBytes, lengthBytes] of places) {
      for (const byte of [1, 2, 3]) {
        const data = new Uint8Array(lengthBytes).fill(byte);
        const write = { op: UBLK_IO_OP.WRITE, offsetBytes, lengthBytes };
        expect(queue.answer(write, data)).toBe(lengthBytes);
      }
      const found = queue.read(offsetBytes, lengthBytes) as Uint8Array;
      expect(Buffer.compare(found, new Uint8Array(lengthBytes).fill(3))).toBe(0);
    }
  });

  test(`${target.name}: ranges are zeroed, whether their space may go or not, and nothing beside them`, async () => {
    await using it = new Case(target);
    await using backing = await it.open();
    using queue = local(it, backing);
    expect(backing.geometry.writeZeroes).toBeDefined();
    const lengthBytes = IO_BUF_BYTES;
    for (const flags of [0, UBLK_IO_F.NOUNMAP]) {
      const data = new Uint8Array(lengthBytes).fill(7);
      expect(queue.answer({ op: UBLK_IO_OP.WRITE, offsetBytes: 0, lengthBytes }, data)).toBe(
        lengthBytes,
      );
      const range = { offsetBytes: 4096 + 512, lengthBytes: lengthBytes - 16384 };
      expect(queue.answer({ op: UBLK_IO_OP.WRITE_ZEROES, flags, ...range })).toBe(0);
      data.fill(0, range.offsetBytes, range.offsetBytes + range.lengthBytes);
      expect(Buffer.compare(queue.read(0, lengthBytes) as Uint8Array, data)).toBe(0);
    }
  });

  // user-copy moves between memory and file as copy does; here there is no device to copy from.
  test.each(["copy", "get-data", "zero-copy", "auto-zc", "auto-zc-fallback"] as const)(
    `${target.name}, %s: a FUA write is durable when it is answered, and so is its rest`,
    async (mode) => {
      await using it = new Case(target);
      await using backing = await it.open();
      const { geometry, facts, fds } = backing;
      // Without a cache no FUA is ever asked for.
      if (!geometry.volatileCache) return expect(geometry.fua).toBe(false);
      const fake = new FakeQueue({ id: 0, depth: 1, mode });
      fake.prime(target.serve(it.spec, { facts, fds, queue: fake.queue }));
      const request = { op: UBLK_IO_OP.WRITE, offsetBytes: 0, lengthBytes: 4096 };
      const moved = () => fake.words().filter((words) => words[9] === KIND.target);
      for (const [flags, rwFlags] of [
        [UBLK_IO_F.FUA, RWF.DSYNC],
        [0, 0],
      ] as const) {
        fake.deliver(0, { ...request, flags });
        const [first] = moved();
        expect(first![7]).toBe(rwFlags);
        fake.queue.onCompletion(first![8]!, KIND.target, 1024, 0);
        const [rest] = moved();
        expect(rest![6]).toBe(4096 - 1024);
        expect(rest![7]).toBe(rwFlags);
        fake.queue.onCompletion(rest![8]!, KIND.target, 4096 - 1024, 0);
        expect(fake.submitted().at(-1)).toMatchObject({ operation: "commit", result: 4096 });
      }
      fake.deliver(0, { ...request, op: UBLK_IO_OP.READ, flags: UBLK_IO_F.FUA });
      expect(moved()[0]![7]).toBe(0);
    },
  );

  test(`${target.name}: what has shrunk below it is an I/O error, never old memory`, async () => {
    await using it = new Case(target);
    await using backing = await it.open();
    using queue = local(it, backing);
    const files = target.files?.(it.spec) ?? [];
    for (const fd of files.length > 0 ? [] : backing.fds) ftruncateSync(fd, 4096 + 512);
    for (const file of files) truncateSync(file, 4096 + 512);
    const half = backing.geometry.sizeBytes / 2;
    expect(queue.read(half, 65536)).toBe(-ERRNO.EIO);
    expect(queue.read(half, 512)).toBe(-ERRNO.EIO);
    expect(queue.read(0, IO_BUF_BYTES)).toBe(-ERRNO.EIO);
    expect(queue.read(0, 512)).toEqual(new Uint8Array(512));
    expect(queue.notes.length).toBe(1);
  });

  if ("read-only" in target.args) {
    test(`${target.name}: read-only, it is read and never changed`, async () => {
      await using it = new Case(target, "--read-only");
      await using backing = await it.open();
      using queue = local(it, backing);
      expect(backing.geometry.readOnly).toBe(true);
      for (const op of [UBLK_IO_OP.WRITE, UBLK_IO_OP.DISCARD, UBLK_IO_OP.WRITE_ZEROES]) {
        expect(queue.answer({ op, offsetBytes: 0, lengthBytes: 4096 })).toBeLessThan(0);
      }
      expect(queue.read(0, 4096)).toEqual(new Uint8Array(4096));
      expect(queue.answer({ op: UBLK_IO_OP.FLUSH, offsetBytes: 0, lengthBytes: 0 })).toBe(0);
    });
  }
}

test("an operation that a target does not know is refused as such", async () => {
  const target = findTarget("null");
  const spec = target.parse(parseArgs([], target.args));
  const fake = new FakeQueue({ id: 0, depth: 1 });
  fake.prime(target.serve(spec, { facts: {}, fds: [], queue: fake.queue }));
  fake.deliver(0, { op: UBLK_IO_OP.ZONE_APPEND, offsetBytes: 0, lengthBytes: 4096 });
  expect(fake.submitted()[0]!.result).toBe(-ERRNO.EOPNOTSUPP);
});

test("fault_inject fails exactly the requests that touch its offset", () => {
  const target = findTarget("fault_inject");
  const spec = target.parse(parseArgs(["--fault=eio", "--fault-at=1MiB"], target.args));
  const fake = new FakeQueue({ id: 0, depth: 1 });
  fake.prime(target.serve(spec, { facts: {}, fds: [], queue: fake.queue }));
  const result = (offsetBytes: number, lengthBytes: number) => {
    fake.deliver(0, { op: UBLK_IO_OP.READ, offsetBytes, lengthBytes });
    return fake.submitted()[0]!.result;
  };
  const mib = 1024 ** 2;
  expect(result(mib - 4096, 4096)).toBe(4096);
  expect(result(mib - 4096, 8192)).toBe(-5);
  expect(result(mib, 512)).toBe(-5);
  expect(result(mib + 512, 512)).toBe(512);
});

test("an unknown target is a usage error that lists those there are", () => {
  expect(() => findTarget("nul")).toThrow('Unknown target "nul"');
});

test("null has the limits that it is asked for, and no others", async () => {
  const target = findTarget("null");
  const geometry = async (...words: string[]) => {
    const spec = target.parse(parseArgs(words, target.args));
    await using backing = await target.open(spec, { deviceId: 0 } as never);
    const { dmaAlignmentBytes, segments } = backing.geometry;
    return { dmaAlignmentBytes, segments };
  };
  expect(await geometry()).toEqual({ dmaAlignmentBytes: undefined, segments: undefined });
  const words = ["--dma-alignment=4KiB", "--max-segments=32", "--max-segment-size=32KiB"];
  expect(await geometry(...words)).toEqual({
    dmaAlignmentBytes: 4096,
    segments: { maxCount: 32, maxBytes: 32768, boundaryBytes: 2 ** 32 },
  });
  for (const wrong of ["--dma-alignment=8KiB", "--max-segments=0", "--max-segment-size=5000"]) {
    expect(() => target.parse(parseArgs([wrong], target.args))).toThrow(wrong.split("=")[0]);
  }
});
