// The queue with batch commands, against a fake kernel that takes commits in part and runs out of buffers.

import { expect, test } from "bun:test";

import { ERRNO } from "../../src/ffi/errno.ts";
import { UBLK_BATCH_F, UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import { IORING_OP, IOSQE } from "../../src/ffi/uring.ts";
import { FakeBatch } from "../support/fake-batch.ts";
import { FakeQueue, type Request } from "../support/fake-queue.ts";

const READ = { op: UBLK_IO_OP.READ, offsetBytes: 4096, lengthBytes: 8192 };
const keep = { kind: "ring", start: () => {}, finish: () => {} } as const;

const reads = (...tags: number[]) => new Map<number, Request>(tags.map((tag) => [tag, READ]));

/** A primed queue whose PREP the kernel has taken. */
function primed(depth: number, handler: Parameters<FakeQueue["prime"]>[0] = keep): FakeBatch {
  const fake = new FakeBatch({ id: 3, depth });
  fake.queue.prime(handler);
  fake.answer(fake.commands()[0]!);
  return fake;
}

test("prime prepares every tag at once, then fetches for good", () => {
  const fake = new FakeBatch({ id: 3, depth: 5 });
  fake.queue.prime(keep);
  const words = fake.words();
  expect(words[1]!.slice(0, 8)).toEqual([
    IORING_OP.URING_CMD | ((IOSQE.FIXED_FILE | IOSQE.BUFFER_SELECT) << 8),
    1_000_000,
    expect.any(Number),
    0,
    0,
    0,
    0,
    2,
  ]);
  const again = new FakeBatch({ id: 3, depth: 5 });
  again.queue.prime(keep);
  const elements = [0, 1, 2, 3, 4].map((tag) => ({
    tag,
    bufferIndex: tag,
    result: 0,
    address: FakeQueue.address(tag),
  }));
  const flags = UBLK_BATCH_F.HAS_BUF_ADDR;
  expect(again.commands()).toEqual([
    { operation: "prep", queueId: 3, flags, elementBytes: 16, elements, step: 1 },
    { operation: "fetch", queueId: 3, flags: 0, elementBytes: 2, elements: [], step: 3 },
  ]);
});

test.each([
  ["user-copy", 0],
  ["zero-copy", 0],
  ["auto-zc", 0],
  ["auto-zc-fallback", UBLK_BATCH_F.AUTO_BUF_REG_FALLBACK],
] as const)(
  "%s: elements without an address, with the tag as place of the buffer",
  (mode, flags) => {
    const fake = new FakeBatch({ id: 0, depth: 3, mode });
    fake.queue.prime(keep);
    const [prep] = fake.commands();
    expect(prep).toMatchObject({ flags, elementBytes: 8 });
    expect(prep!.elements.map(({ bufferIndex }) => bufferIndex)).toEqual([0, 1, 2]);
  },
);

test("the answers of a round leave in one COMMIT, with what each request is answered", () => {
  const started: number[] = [];
  const fake = primed(8, { ...keep, start: (tag) => void started.push(tag) });
  fake.arrive(reads(4, 1));
  fake.arrive(reads(7));
  expect(started).toEqual([4, 1, 7]);
  fake.queue.complete(7, 8192);
  fake.queue.complete(4, -ERRNO.EIO);
  expect(fake.commands()).toEqual([]);
  const [commit, ...rest] = fake.round();
  expect(rest).toEqual([]);
  expect(commit!.elements.map(({ tag, result }) => [tag, result])).toEqual([
    [7, 8192],
    [4, -ERRNO.EIO],
  ]);
  expect(fake.queue.flush()).toBe(1);
  fake.answer(commit!);
  expect(fake.queue.flush()).toBe(0);
  expect(fake.commands()).toEqual([]);
});

test("while a COMMIT is under way, the next answers are collected behind it", () => {
  const fake = primed(4);
  fake.arrive(reads(0, 1, 2));
  fake.queue.complete(0, 8192);
  const [first] = fake.round();
  fake.queue.complete(1, 8192);
  fake.queue.complete(2, 8192);
  expect(fake.round()).toEqual([]);
  // What the first one carries is still what it was.
  fake.answer(first!);
  const [second] = fake.round();
  expect([first!, second!].map(({ elements }) => elements.map(({ tag }) => tag))).toEqual([
    [0],
    [1, 2],
  ]);
});

test("what a COMMIT leaves over is sent again from there", () => {
  const fake = primed(8);
  fake.arrive(reads(0, 1, 2, 3, 4));
  for (const tag of [4, 3, 2, 1, 0]) fake.queue.complete(tag, 8192);
  const [commit] = fake.round();
  fake.answer(commit!, 2 * 16);
  const [rest] = fake.commands();
  expect(rest!.elements.map(({ tag }) => tag)).toEqual([2, 1, 0]);
  fake.answer(rest!, 16);
  const [last] = fake.commands();
  expect(last!.elements.map(({ tag }) => tag)).toEqual([1, 0]);
  fake.answer(last!);
  expect(fake.round()).toEqual([]);
  expect(fake.queue.failure).toBe(0);
});

test.each([-ERRNO.EBUSY, -ERRNO.EFAULT, 0])("a COMMIT answered with %d is a failure", (result) => {
  const fake = primed(2);
  fake.arrive(reads(0));
  fake.queue.complete(0, 8192);
  fake.answer(fake.round()[0]!, result);
  expect(fake.queue.failure).toBeLessThan(0);
});

test("a refused PREP is a failure", () => {
  const fake = new FakeBatch({ id: 0, depth: 2 });
  fake.queue.prime(keep);
  fake.answer(fake.commands()[0]!, -ERRNO.EBUSY);
  expect(fake.queue.failure).toBe(-ERRNO.EBUSY);
});

test("a FETCH that found no buffer, or ended for no reason, is sent again; buffers come back", () => {
  const fake = primed(64);
  const buffers = fake.buffersLeft;
  expect(buffers).toBeGreaterThan(1);
  for (let tag = 0; tag < 40; tag++) fake.arrive(reads(tag));
  expect(fake.buffersLeft).toBe(buffers);
  fake.endFetch(ERRNO.ENOBUFS);
  expect(fake.commands().map(({ operation }) => operation)).toEqual(["fetch"]);
  fake.arrive(reads(41), { isLast: true });
  expect(fake.commands().map(({ operation }) => operation)).toEqual(["fetch"]);
  fake.arrive(reads());
  expect(fake.buffersLeft).toBe(buffers);
  expect(fake.queue.failure).toBe(0);
  fake.endFetch(ERRNO.EINVAL);
  expect(fake.queue.failure).toBe(-ERRNO.EINVAL);
});

test("the queue ends when every answer is confirmed, and waits for nothing else then", () => {
  const fake = primed(4);
  fake.arrive(reads(0, 1));
  fake.endFetch(ERRNO.ENODEV);
  expect(fake.commands()).toEqual([]);
  expect(fake.queue.finished).toBe(false);
  fake.queue.complete(0, 8192);
  fake.queue.complete(1, 8192);
  expect(fake.queue.finished).toBe(false);
  // A round that waited for more than this confirmation would wait for ever.
  expect(fake.queue.flush()).toBe(0);
  const [commit] = fake.commands();
  fake.answer(commit!, 16);
  expect(fake.queue.finished).toBe(false);
  fake.answer(fake.commands()[0]!);
  expect(fake.queue.finished).toBe(true);
  expect(fake.queue.isBeingTakenBack).toBe(false);
});

test("a queue that drains is drained once its answers are confirmed; it keeps what is new", () => {
  const started: number[] = [];
  const fake = primed(4, { ...keep, start: (tag) => void started.push(tag) });
  fake.arrive(reads(0));
  fake.queue.drain();
  fake.arrive(reads(1));
  fake.queue.complete(0, 8192);
  expect(fake.queue.drained).toBe(false);
  expect(fake.queue.flush()).toBe(0);
  fake.answer(fake.commands()[0]!);
  expect(fake.queue.drained).toBe(true);
  fake.queue.stay();
  expect(started).toEqual([0, 1]);
});

test("what is submitted at once: the tags fetched so far, then the answers given so far", () => {
  const fake = new FakeBatch({ id: 3, depth: 4 });
  const { queue } = fake;
  queue.prime({
    ...keep,
    fetching: (tag) => {
      if (tag === 1) queue.submit();
    },
  });
  const [first, rest, fetch] = fake.commands();
  expect([first!, rest!].map(({ elements }) => elements.map(({ tag }) => tag))).toEqual([
    [0],
    [1, 2, 3],
  ]);
  expect([first!, rest!, fetch!].map(({ operation }) => operation)).toEqual([
    "prep",
    "prep",
    "fetch",
  ]);
  for (const prep of [first!, rest!]) fake.answer(prep);
  fake.arrive(reads(2, 1));
  queue.complete(2, 8192);
  queue.complete(1, 8192);
  queue.submit();
  const [commit] = fake.commands();
  expect(commit).toMatchObject({ operation: "commit", elements: [{ tag: 2 }, { tag: 1 }] });
});

test("in any order, with commits taken in part, each request is answered exactly once", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  let state = seed;
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
  const depth = 200;
  const fake = primed(depth);
  const idle = new Set(Array.from({ length: depth }, (_, tag) => tag));
  const withTarget: number[] = [];
  const answered = new Map<number, number>();
  const inKernel: ReturnType<FakeBatch["commands"]> = [];
  for (let step = 0; step < 5000; step++) {
    switch (random(4)) {
      case 0: {
        const tags = [...idle].slice(0, random(20));
        for (const tag of tags) idle.delete(tag);
        withTarget.push(...tags);
        if (tags.length > 0) fake.arrive(reads(...tags));
        break;
      }
      case 1:
        for (let n = random(20); n > 0 && withTarget.length > 0; n--) {
          const [tag] = withTarget.splice(random(withTarget.length), 1);
          answered.set(tag!, step);
          fake.queue.complete(tag!, step);
        }
        break;
      case 2:
        inKernel.push(...fake.round());
        break;
      default: {
        const command = inKernel.shift();
        if (command === undefined) break;
        const taken = 1 + random(command.elements.length);
        for (const { tag, result } of command.elements.slice(0, taken)) {
          expect(answered.get(tag), `seed ${seed}`).toBe(result);
          answered.delete(tag);
          idle.add(tag);
        }
        fake.answer(command, taken * 16);
        inKernel.push(...fake.commands());
      }
    }
    expect(inKernel.length, `seed ${seed}`).toBeLessThan(2);
  }
  expect(fake.queue.failure).toBe(0);
});
