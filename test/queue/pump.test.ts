// How a queue's thread ends: nothing that was delivered stays unanswered, no commit stays behind.

import { expect, test } from "bun:test";

import { ERRNO } from "../../src/ffi/errno.ts";
import { UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import type { Progress } from "../../src/queue/progress.ts";
import { pump } from "../../src/queue/pump.ts";
import type { Ring } from "../../src/ring/ring.ts";
import { type Command, FakeQueue } from "../support/fake-queue.ts";

const EAGAIN = -ERRNO.EAGAIN;
const READ = { op: UBLK_IO_OP.READ, offsetBytes: 4096, lengthBytes: 8192 };
const progress = { idle: () => {}, busy: () => {} } as unknown as Progress;

type Round = (fake: FakeQueue) => void;

/**
 * Pumps a queue whose target answers at once, through rounds that a test plays. `takes`: how many entries
 * the kernel takes in a round, or why none; undefined: all there are.
 */
function play(rounds: readonly Round[], takes: (round: number) => number | undefined = () => {}) {
  const fake = new FakeQueue({ id: 0, depth: 4 });
  const answer = { kind: "ring", start: complete, finish: () => {} } as const;
  function complete(tag: number): void {
    fake.queue.complete(tag, READ.lengthBytes);
  }
  fake.prime(answer);
  const waits: number[] = [];
  const queued: Command[] = [];
  const submitted: Command[] = [];
  /** What had been submitted each time when the queue was said to be drained. */
  const drained: number[][] = [];
  const tags = () => submitted.map(({ tag }) => tag);
  const ring = {
    get unsubmitted() {
      return queued.push(...fake.submitted());
    },
    submitAndWait: (count: number) => {
      const entries = ring.unsubmitted;
      const taken = takes(waits.push(count)) ?? entries;
      submitted.push(...queued.splice(0, Math.max(taken, 0)));
      return taken;
    },
    reap: () => rounds[waits.length - 1]?.(fake),
  };
  pump(ring as unknown as Ring, fake.queue, progress, () => drained.push(tags()));
  return { waits, commits: tags(), drained, left: ring.unsubmitted };
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
  expect(left).toBe(0);
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
      fake.tell("leave");
    },
    (fake) => fake.deliver(2, READ),
  ]);
  expect(commits).toEqual([0]);
  expect(left).toBe(0);
});

const letGo: readonly Round[] = [
  (fake) => {
    fake.deliver(0, READ);
    fake.deliver(1, READ);
    fake.deliver(2, READ);
    fake.tell("leave");
  },
];
const drainThenLeave: readonly Round[] = [
  (fake) => {
    fake.deliver(0, READ);
    fake.deliver(1, READ);
    fake.queue.drain();
  },
  ...Array.from({ length: 4 }, () => () => {}),
  (fake) => fake.tell("leave"),
];

test.each([
  ["none", EAGAIN],
  ["a part", 1],
])(
  "last commits of which the kernel takes %s are offered again, until all are taken",
  (_, taken) => {
    const { commits, left } = play(letGo, (round) => (round > 1 && round < 4 ? taken : undefined));
    expect(commits).toEqual([0, 1, 2]);
    expect(left).toBe(0);
  },
);

test.each([
  ["none", EAGAIN],
  ["a part", 1],
])("a queue is not drained while the kernel has taken %s of its commits", (_, taken) => {
  const takes = (round: number) => (round > 1 && round < 3 ? taken : undefined);
  const { drained } = play(drainThenLeave, takes);
  expect(drained.length).toBeGreaterThan(0);
  for (const commits of drained) expect(commits).toEqual([0, 1]);
});

test("a kernel that takes no last commit for a long time ends the process, not only the queue", () => {
  expect(() => play(letGo, (round) => (round > 1 ? EAGAIN : undefined))).toThrow(
    "does not take the last 3 entries",
  );
});

test("a commit that the kernel refuses while the queue ends is not passed over", () => {
  const refusing = [
    (fake: FakeQueue) => fake.refuse(1, ERRNO.ENODEV),
    (fake: FakeQueue) => fake.refuse(0, ERRNO.EINVAL),
  ];
  expect(() => play(refusing)).toThrow("refused a FETCH or commit: EINVAL");
});
