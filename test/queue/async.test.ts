// A disk of functions as a queue's handler: every request is answered once, whatever they do.

import { expect, test } from "bun:test";

import type { Disk } from "ublk-bun";

import { BlockError } from "../../src/api/index.ts";
import { ERRNO } from "../../src/ffi/errno.ts";
import { mapMemory } from "../../src/ffi/memory.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import { AsyncHandler, CALLS } from "../../src/queue/async.ts";
import { FailureLog } from "../../src/queue/failure-log.ts";
import { TagViews } from "../../src/queue/tag-views.ts";
import { FakeQueue } from "../support/fake-queue.ts";

const BYTES = 4096;
const DEPTH = 4;
const READ = { op: UBLK_IO_OP.READ, offsetBytes: 8192, lengthBytes: BYTES };
const WRITE = { op: UBLK_IO_OP.WRITE, offsetBytes: 4096, lengthBytes: BYTES };
const FLUSH = { op: UBLK_IO_OP.FLUSH, offsetBytes: 0, lengthBytes: 0 };

const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A disk of these functions on a queue whose buffers are real. */
function serve(functions: Partial<Disk>, options: { readonly isReadOnly?: boolean } = {}) {
  const fake = new FakeQueue({ id: 0, depth: DEPTH });
  const memories = Array.from({ length: DEPTH }, () => mapMemory(BYTES));
  const disk: Disk = { sizeBytes: 1 << 20, read() {}, ...functions };
  const said: string[] = [];
  const calls = { settled: 0 };
  const { queue } = fake;
  const replaced: number[] = [];
  const context = {
    depth: DEPTH,
    op: (tag: number) => queue.op(tag),
    flags: (tag: number) => queue.flags(tag),
    offsetBytes: (tag: number) => queue.offsetBytes(tag),
    lengthBytes: (tag: number) => queue.lengthBytes(tag),
    complete: (tag: number, result: number) => queue.complete(tag, result),
    replaceBuffer: (tag: number) => {
      replaced.push(tag);
      memories[tag] = mapMemory(BYTES);
    },
  };
  const handler = new AsyncHandler({
    queue: context,
    disk,
    flush: () => disk.flush?.(),
    views: new TagViews(DEPTH, BYTES, (tag) => memories[tag]!.address),
    isReadOnly: options.isReadOnly === true,
    ioTimeoutMs: 1000,
    failures: new FailureLog((text) => said.push(text)),
    places: new Map(Object.values(CALLS).map((call) => [call, `/x/disk.ts:${call}`])),
    onCall: () => {},
    onSettled: () => calls.settled++,
  });
  fake.prime(handler);
  const answers = () => fake.submitted().map(({ tag, result }) => [tag, result]);
  return {
    fake,
    handler,
    said,
    answers,
    replaced,
    calls,
    memory: (tag: number) => memories[tag]!.bytes,
  };
}

test("functions that return at once are answered at once, with the whole length", () => {
  const seen: unknown[] = [];
  const it = serve({
    read: (offset, into) => void seen.push(offset, into.fill(7).length),
    write: (offset, from, { fua }) => void seen.push(offset, from[0], fua),
    flush: () => void seen.push("flush"),
    discard: (offset, length) => void seen.push(offset, length),
    writeZeroes: (_offset, _length, { mayUnmap }) => void seen.push(mayUnmap),
  });
  it.memory(1)[0] = 9;
  it.fake.deliver(0, READ);
  it.fake.deliver(1, { ...WRITE, flags: UBLK_IO_F.FUA });
  it.fake.deliver(2, FLUSH);
  it.fake.deliver(3, { op: UBLK_IO_OP.DISCARD, offsetBytes: 0, lengthBytes: 65536 });
  expect(it.answers()).toEqual([
    [0, BYTES],
    [1, BYTES],
    [2, 0],
    [3, 0],
  ]);
  const zero = { op: UBLK_IO_OP.WRITE_ZEROES, offsetBytes: 0, lengthBytes: 65536 };
  it.fake.deliver(0, { ...zero, flags: UBLK_IO_F.NOUNMAP });
  it.fake.deliver(1, zero);
  expect(it.answers()).toEqual([
    [0, 0],
    [1, 0],
  ]);
  expect(seen).toEqual([8192, BYTES, 4096, 9, true, "flush", 0, 65536, false, true]);
  expect(it.memory(0)[BYTES - 1]).toBe(7);
  expect(it.calls.settled).toBe(0);
});

test("a buffer that was given away is there again for the next request", () => {
  const { port1 } = new MessageChannel();
  const it = serve({
    read: (_offset, into) => void into.fill(7),
    write: (_offset, from) => port1.postMessage(from, [from.buffer as ArrayBuffer]),
  });
  it.fake.deliver(0, WRITE);
  expect(it.answers()).toEqual([[0, BYTES]]);
  it.fake.deliver(0, READ);
  expect(it.answers()).toEqual([[0, BYTES]]);
  expect(it.memory(0)[BYTES - 1]).toBe(7);
  expect(it.said).toEqual([]);
});

test("promises are answered when they settle, in any order", async () => {
  const settlers: (() => void)[] = [];
  const it = serve({ read: () => new Promise<void>((resolve) => settlers.push(resolve)) });
  for (const tag of [0, 1, 2]) it.fake.deliver(tag, READ);
  expect([it.answers(), it.handler.pending]).toEqual([[], 3]);
  settlers[2]!();
  settlers[0]!();
  await settle();
  expect(it.answers()).toEqual([
    [2, BYTES],
    [0, BYTES],
  ]);
  expect([it.handler.pending, it.calls.settled]).toEqual([1, 2]);
});

test("an answer whose `then` throws is EIO, and the queue goes on", () => {
  const answers = [
    {
      // oxlint-disable-next-line no-thenable -- that is what is tried
      get then() {
        throw new Error("no then");
      },
    },
    undefined,
  ];
  const it = serve({ read: () => answers.shift() as undefined });
  for (const tag of [0, 1]) it.fake.deliver(tag, READ);
  expect(it.answers()).toEqual([
    [0, -ERRNO.EIO],
    [1, BYTES],
  ]);
});

test("what is thrown becomes its errno; EIO when it is not a BlockError", async () => {
  const errors: unknown[] = [
    new BlockError("ENOSPC"),
    new Error("plain"),
    Object.assign(new Error("no entry"), { code: "ENOENT", errno: -2 }),
    "a string",
  ];
  for (const isAsync of [false, true]) {
    const it = serve({
      write(offset) {
        const error = errors[offset / BYTES];
        if (isAsync) return Promise.reject(error);
        throw error;
      },
    });
    errors.forEach((_, tag) => it.fake.deliver(tag, { ...WRITE, offsetBytes: tag * BYTES }));
    await settle();
    const { ENOSPC, EIO } = ERRNO;
    expect(it.answers()).toEqual([
      [0, -ENOSPC],
      [1, -EIO],
      [2, -EIO],
      [3, -EIO],
    ]);
    expect(it.said[0]).toContain(`async.test.ts`);
    expect(it.said[0]).toEndWith("write of 4096 bytes at 0 failed: ENOSPC; answered ENOSPC");
    expect(it.said.at(-1)).toStartWith(
      "/x/disk.ts:write: write of 4096 bytes at 12288 failed: a string",
    );
  }
});

test("less than all of it, or a value in its place, is EIO", async () => {
  const values = [100, Uint8Array.of(1) as unknown as number, BYTES, undefined];
  const it = serve({ read: (offset) => values[offset / BYTES] });
  values.forEach((_, tag) => it.fake.deliver(tag, { ...READ, offsetBytes: tag * BYTES }));
  expect(it.answers()).toEqual([
    [0, -ERRNO.EIO],
    [1, -ERRNO.EIO],
    [2, BYTES],
    [3, BYTES],
  ]);
  expect(it.said).toEqual([
    "/x/disk.ts:read: read of 4096 bytes at 0 returned 100: it must fill all of `into`, and return nothing; answered EIO",
  ]);
});

test("a negative number is no errno, and what carries no data returns nothing", async () => {
  async function* generator() {
    yield 1;
  }
  const it = serve({
    read: () => -ERRNO.ENOSPC,
    flush: generator as never,
    discard: async (_offset, length) => length as never,
    writeZeroes: () => 0 as never,
  });
  it.fake.deliver(0, READ);
  it.fake.deliver(1, FLUSH);
  it.fake.deliver(2, { op: UBLK_IO_OP.DISCARD, offsetBytes: 0, lengthBytes: 65536 });
  it.fake.deliver(3, { op: UBLK_IO_OP.WRITE_ZEROES, offsetBytes: 0, lengthBytes: 65536 });
  await settle();
  expect(it.answers()).toEqual([
    [0, -ERRNO.EIO],
    [1, -ERRNO.EIO],
    [3, 0],
    [2, -ERRNO.EIO],
  ]);
  expect(it.said).toEqual([
    "/x/disk.ts:read: read of 4096 bytes at 8192 returned -28: it must fill all of `into`, and return nothing; answered EIO",
    "/x/disk.ts:flush: flush returned something of type object: it must return nothing; answered EIO",
    "/x/disk.ts:discard: discard of 65536 bytes at 0 returned 65536: it must return nothing; answered EIO",
  ]);
});

test("what a disk does not have is not supported; a read-only one writes nothing", () => {
  const it = serve({});
  it.fake.deliver(0, WRITE);
  it.fake.deliver(1, { op: UBLK_IO_OP.ZONE_OPEN, offsetBytes: 0, lengthBytes: 0 });
  expect(it.answers()).toEqual([
    [0, -ERRNO.EOPNOTSUPP],
    [1, -ERRNO.EOPNOTSUPP],
  ]);
  const readOnly = serve({ write() {} }, { isReadOnly: true });
  readOnly.fake.deliver(0, WRITE);
  expect(readOnly.answers()).toEqual([[0, -ERRNO.EROFS]]);
});

test("a read that never settles: ETIMEDOUT once, another buffer, and late writes reach nobody", async () => {
  let late: Uint8Array | undefined;
  let end = () => {};
  const it = serve({
    read(_offset, into) {
      if (late !== undefined) return void into.fill(1);
      late = into;
      return new Promise<void>((resolve) => {
        end = resolve;
      });
    },
  });
  it.fake.deliver(0, READ);
  const old = it.memory(0);
  const now = performance.now();
  it.handler.sweep(now + 500);
  expect(it.answers()).toEqual([]);
  it.handler.sweep(now + 2000);
  expect(it.answers()).toEqual([[0, -ERRNO.ETIMEDOUT]]);
  expect(it.replaced).toEqual([0]);
  expect(it.said).toEqual([
    "/x/disk.ts:read: read of 4096 bytes at 8192 has not answered for 1 s (--io-timeout); answered ETIMEDOUT",
  ]);
  it.fake.deliver(0, READ);
  expect(it.answers()).toEqual([[0, BYTES]]);
  // Late: into the view, and as native code would, into the memory.
  expect(late!.length).toBe(0);
  late![0] = 0xee;
  expect(() => late!.fill(0xee)).toThrow("detached");
  old.fill(0xee);
  expect(it.memory(0).every((byte) => byte === 1)).toBe(true);
  end();
  await settle();
  expect([it.answers(), it.handler.pending]).toEqual([[], 0]);
});

test("a write that never settles sees nothing of the next request's data", () => {
  let late: Uint8Array | undefined;
  const it = serve({
    write(_offset, from) {
      late ??= from;
      return from === late ? new Promise<void>(() => {}) : undefined;
    },
  });
  it.memory(0).fill(1);
  it.fake.deliver(0, WRITE);
  const old = it.memory(0);
  expect(late![0]).toBe(1);
  it.handler.sweep(performance.now() + 2000);
  expect(it.answers()).toEqual([[0, -ERRNO.ETIMEDOUT]]);
  it.memory(0).fill(2);
  it.fake.deliver(0, WRITE);
  expect(it.answers()).toEqual([[0, BYTES]]);
  expect([late!.length, late![0], old[0]]).toEqual([0, undefined, 1]);
});

test("what was abandoned is not answered again", async () => {
  let end = () => {};
  const it = serve({
    read: () =>
      new Promise<void>((resolve) => {
        end = resolve;
      }),
  });
  it.fake.deliver(0, READ);
  it.handler.abandon();
  it.fake.queue.refuse();
  expect(it.answers()).toEqual([[0, -ERRNO.EIO]]);
  end();
  await settle();
  expect(it.answers()).toEqual([]);
});

test("the same failure is said once in ten seconds, and then how often it was", () => {
  const said: string[] = [];
  const failures = new FailureLog((text) => said.push(text));
  for (let n = 0; n < 5; n++) failures.add("a", `a${n}`, 1000 + n);
  failures.add("b", "b", 1000);
  failures.add("a", "a5", 12_000);
  expect(said).toEqual(["a0", "b", "a5 (and 4 more like it before)"]);
});
