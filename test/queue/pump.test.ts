// How a queue's thread ends: nothing that was delivered stays unanswered, no commit stays behind.

import { expect, test } from "bun:test";

import { ERRNO } from "../../src/ffi/errno.ts";
import { UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import type { Progress } from "../../src/queue/progress.ts";
import { pump } from "../../src/queue/pump.ts";
import type { Ring } from "../../src/ring/ring.ts";
import { type Command, FakeQueue } from "../support/fake-queue.ts";

const READ = { op: UBLK_IO_OP.READ, offsetBytes: 4096, lengthBytes: 8192 };
const progress = { idle: () => {}, busy: () => {} } as unknown as Progress;

/** Pumps a queue whose target answers at once, through rounds that a test plays. */
function play(rounds: readonly ((fake: FakeQueue) => void)[]) {
  const fake = new FakeQueue({ id: 0, depth: 4 });
  const answer = { kind: "ring", start: complete, finish: () => {} } as const;
  function complete(tag: number): void {
    fake.queue.complete(tag, READ.lengthBytes);
  }
  fake.prime(answer);
  const waits: number[] = [];
  const submitted: Command[] = [];
  const ring = {
    submitAndWait: (count: number) => {
      submitted.push(...fake.submitted());
      return waits.push(count);
    },
    reap: () => rounds[waits.length - 1]?.(fake),
  } as unknown as Ring;
  pump(ring, fake.queue, progress, () => {});
  return { waits, commits: submitted.map(({ tag }) => tag), left: fake.submitted() };
}

test("a request that arrives after the kernel has taken another tag back is answered", () => {
  const { waits, commits, left } = play([
    (fake) => fake.deliver(0, READ),
    (fake) => fake.refuse(1, ERRNO.ENODEV),
    (fake) => fake.deliver(2, READ),
    (fake) => fake.deliver(3, READ),
    (fake) => [0, 2, 3].forEach((tag) => fake.refuse(tag, ERRNO.ENODEV)),
  ]);
  expect(commits).toEqual([0, 2, 3]);
  expect(left).toEqual([]);
  expect(waits.slice(0, 3)).toEqual([1, 1, 0]);
});

test("the ring stays open until the kernel has taken every tag back, but not for ever", () => {
  const back = (tag: number) => (fake: FakeQueue) => fake.refuse(tag, ERRNO.ENODEV);
  // Nothing comes in a round with 0; then one tag a round.
  const { waits } = play([back(1), () => {}, back(0), back(2), back(3)]);
  expect(waits).toEqual([1, 0, 1, 1, 1]);
  expect(play([back(1)]).waits.length).toBeLessThan(100);
});

test("a server that lets go keeps what arrives late unstarted, and submits its last commits", () => {
  const { commits, left } = play([
    (fake) => {
      fake.deliver(0, READ);
      fake.wake();
    },
    (fake) => fake.deliver(2, READ),
  ]);
  expect(commits).toEqual([0]);
  expect(left).toEqual([]);
});

test("a commit that the kernel refuses while the queue ends is not passed over", () => {
  const refusing = [
    (fake: FakeQueue) => fake.refuse(1, ERRNO.ENODEV),
    (fake: FakeQueue) => fake.refuse(0, ERRNO.EINVAL),
  ];
  expect(() => play(refusing)).toThrow("refused a FETCH or commit: EINVAL");
});
