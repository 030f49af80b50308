// The queue's side of the bargain with the kernel, played by a fake ring.

import { expect, test } from "bun:test";

import { ERRNO } from "../../src/ffi/errno.ts";
import { UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import { FakeQueue } from "../support/fake-queue.ts";

const READ = { op: UBLK_IO_OP.READ, offsetBytes: 4096, lengthBytes: 8192 };
const keep = { kind: "ring", start: () => {}, finish: () => {} } as const;

test("prime fetches every tag once, each with its own buffer", () => {
  const fake = new FakeQueue({ id: 3, depth: 5 });
  const commands = fake.prime(keep);
  expect(commands).toEqual(
    [0, 1, 2, 3, 4].map((tag) => ({
      operation: "fetch",
      queueId: 3,
      tag,
      result: 0,
      address: FakeQueue.address(tag),
    })),
  );
});

test("a request goes to the target, its result to the kernel", () => {
  const fake = new FakeQueue({ id: 0, depth: 4 });
  const started: number[] = [];
  fake.prime({ ...keep, start: (tag) => void started.push(tag) });
  fake.deliver(2, READ);
  expect(started).toEqual([2]);
  expect(fake.queue.lengthBytes(2)).toBe(8192);
  fake.queue.complete(2, 8192);
  expect(fake.submitted()).toEqual([
    { operation: "commit", queueId: 0, tag: 2, result: 8192, address: FakeQueue.address(2) },
  ]);
  expect(fake.queue.served).toBe(1);
});

test("completing twice, or what was never delivered, is a broken invariant", () => {
  const fake = new FakeQueue({ id: 0, depth: 4 });
  fake.prime(keep);
  expect(() => fake.queue.complete(1, 0)).toThrow("exactly once");
  fake.deliver(1, READ);
  fake.queue.complete(1, 8192);
  expect(() => fake.queue.complete(1, 8192)).toThrow("exactly once");
});

test("a request on a tag that the target still has is a broken invariant", () => {
  const fake = new FakeQueue({ id: 0, depth: 4 });
  fake.prime(keep);
  fake.deliver(1, READ);
  expect(() => fake.deliver(1, READ)).toThrow("the kernel holds");
});

test("after the first abort the queue ends when its last request is answered", () => {
  const fake = new FakeQueue({ id: 0, depth: 3 });
  fake.prime(keep);
  fake.deliver(0, READ);
  expect(fake.queue.finished).toBe(false);
  fake.refuse(1, ERRNO.ENODEV);
  expect(fake.queue.finished).toBe(false);
  fake.deliver(2, READ); // delivered before the kernel took its tags back: served all the same
  fake.queue.complete(0, 8192);
  expect(fake.queue.finished).toBe(false);
  fake.queue.complete(2, 8192);
  expect(fake.queue.finished).toBe(true);
  expect(fake.queue.failure).toBe(0);
});

test("when letting go, new requests are kept for the next server", () => {
  const fake = new FakeQueue({ id: 0, depth: 3 });
  const started: number[] = [];
  fake.prime({ ...keep, start: (tag) => void started.push(tag) });
  fake.deliver(0, READ);
  fake.tell("leave");
  fake.deliver(1, READ);
  expect(started).toEqual([0]);
  expect(fake.queue.finished).toBe(false);
  fake.queue.complete(0, 8192);
  expect(fake.queue.finished).toBe(true);
});

test("a refused command is remembered, not taken for an abort", () => {
  const fake = new FakeQueue({ id: 0, depth: 2 });
  fake.prime(keep);
  fake.refuse(0, ERRNO.EBUSY);
  expect(fake.queue.failure).toBe(-ERRNO.EBUSY);
  expect(fake.queue.finished).toBe(false);
});

test("a target's own completions come back to it with tag and step", () => {
  const fake = new FakeQueue({ id: 0, depth: 300 });
  const seen: number[][] = [];
  fake.prime({ ...keep, finish: (...words) => void seen.push(words) });
  const at = fake.queue.ring.sqe();
  fake.queue.own(at, 299, 65535);
  const { sqes } = fake.queue.ring;
  fake.queue.onCompletion(sqes[at + 8]!, sqes[at + 9]!, -5, 0);
  expect(seen).toEqual([[299, 65535, -5]]);
});

test("in any order, each delivered request is committed exactly once", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  let state = seed;
  const random = (below: number) => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % below;
  };
  const depth = 64;
  const fake = new FakeQueue({ id: 1, depth });
  fake.prime(keep);
  const withTarget: number[] = [];
  const withKernel = Array.from({ length: depth }, (_, tag) => tag);
  const take = (from: number[]) => from.splice(random(from.length), 1)[0]!;
  for (let step = 0; step < 20_000; step++) {
    if (withKernel.length > 0 && (withTarget.length === 0 || random(2) === 0)) {
      const tag = take(withKernel);
      fake.deliver(tag, READ);
      withTarget.push(tag);
    } else {
      const tag = take(withTarget);
      fake.queue.complete(tag, READ.lengthBytes);
      withKernel.push(tag);
      expect(
        fake.submitted().map((command) => command.tag),
        `seed ${seed}`,
      ).toEqual([tag]);
    }
  }
});

test("a queue that drains keeps what is new, and starts it when it is to stay", () => {
  const fake = new FakeQueue({ id: 0, depth: 3 });
  const started: number[] = [];
  fake.prime({ ...keep, start: (tag) => void started.push(tag) });
  fake.deliver(0, READ);
  fake.queue.drain();
  expect(fake.queue.drained).toBe(false);
  fake.deliver(1, READ);
  fake.queue.complete(0, 8192);
  expect(fake.queue.drained).toBe(true);
  expect(fake.queue.finished).toBe(false);
  fake.queue.stay();
  expect(started).toEqual([0, 1]);
  expect(fake.queue.drained).toBe(false);
});
