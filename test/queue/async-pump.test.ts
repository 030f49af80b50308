// Ring and event loop take turns: the ring is real, the driver's commands are caught before they leave.

import { expect, test } from "bun:test";

import { ERRNO } from "../../src/ffi/errno.ts";
import { liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { mapMemory } from "../../src/ffi/memory.ts";
import { UBLK_IO, UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import { IORING_OP, IORING_SETUP } from "../../src/ffi/uring.ts";
import { AsyncPump } from "../../src/queue/async-pump.ts";
import { AsyncHandler } from "../../src/queue/async.ts";
import { openBuffers } from "../../src/queue/buffers.ts";
import type { Descriptors } from "../../src/queue/descs.ts";
import { FailureLog } from "../../src/queue/failure-log.ts";
import { Progress } from "../../src/queue/progress.ts";
import { type Order, ORDERS } from "../../src/queue/protocol.ts";
import { Queue } from "../../src/queue/queue.ts";
import { TagMemory } from "../../src/queue/tag-memory.ts";
import { TagViews } from "../../src/queue/tag-views.ts";
import { KIND } from "../../src/queue/tag.ts";
import { prepMsgRing, prepNop, setUserData } from "../../src/ring/ops.ts";
import { Ring } from "../../src/ring/ring.ts";

const CHAR_FD = 1_000_000;
const DEPTH = 4;
const BYTES = 4096;
const CAUGHT = 99;
const liburing = loadLiburing(liburingPath());

/** Two queues on one ring, whose disk is `read`; `deliver` is the kernel. */
class Bench implements Disposable {
  readonly commits: string[] = [];
  readonly pump: AsyncPump;
  readonly ended: Promise<void>;
  onCommit = () => {};
  drained = 0;
  /** What was still to be submitted when the queues were said to be drained. */
  behind = 0;
  /** So often the kernel has no memory for what is queued. */
  refusals = 0;
  readonly #ring: Ring;
  readonly #other: Ring;
  readonly #queues: readonly Queue[];
  #unseen: number[] = [];

  constructor(read: (offset: number, into: Uint8Array) => void | Promise<void>) {
    const flags = IORING_SETUP.SINGLE_ISSUER | IORING_SETUP.DEFER_TASKRUN;
    this.#ring = new Ring({ liburing, entries: 64, cqEntries: 128, flags });
    this.#other = new Ring({ liburing, entries: 64, cqEntries: 128, flags: 0 });
    const ring = this.#catching();
    const lanes = [0, 1].map((lane) => {
      const memory = new TagMemory({ depth: DEPTH, bytesPerTag: BYTES, shared: false });
      const descriptors = {
        op: () => UBLK_IO_OP.READ,
        flags: () => 0,
        offsetBytes: (tag: number) => (lane * DEPTH + tag) * BYTES,
        lengthBytes: () => BYTES,
      } as unknown as Descriptors;
      const common = { ring, depth: DEPTH, charFd: CHAR_FD, charFile: CHAR_FD, descriptors };
      const mode = { mode: "copy", data: "address", bytesPerTag: BYTES, memory } as const;
      const queue = new Queue({
        ...common,
        id: lane,
        lane,
        buffers: openBuffers({ ...common, ...mode, queueId: lane }),
        onOrder: (order) => this.#queues.forEach((each) => each[order]()),
        onNote: () => {},
      });
      const handler = new AsyncHandler({
        queue,
        disk: { sizeBytes: 1 << 20, read },
        flush: () => {},
        views: new TagViews(DEPTH, BYTES, (tag) => memory.address(tag)),
        isReadOnly: true,
        ioTimeoutMs: 200,
        failures: new FailureLog(() => {}),
        places: new Map(),
        onCall: () => {},
        onSettled: () => this.pump.call(),
      });
      return { queue, handler };
    });
    this.#queues = lanes.map(({ queue }) => queue);
    this.pump = new AsyncPump({
      ring,
      queues: this.#queues,
      handlers: lanes.map(({ handler }) => handler),
      progress: new Progress(mapMemory(4096).address),
      beatMs: 20,
      onDrained: () => {
        this.drained++;
        this.behind += this.#ring.unsubmitted;
      },
    });
    for (const { queue, handler } of lanes) queue.prime(handler);
    this.ended = this.pump.run();
  }

  /** The kernel has a request: a completion from another ring, as it comes while we sleep. */
  deliver(lane: number, tag: number): void {
    this.#post(tag | (lane << 16), KIND.ublk);
  }

  tell(order: Order): void {
    this.#post(ORDERS.indexOf(order), KIND.wake);
  }

  /** What the kernel has not been given. */
  get unsubmitted(): number {
    return this.#ring.unsubmitted;
  }

  async until(commits: number): Promise<void> {
    while (this.commits.length < commits) {
      await new Promise<void>((resolve) => {
        this.onCommit = resolve;
      });
    }
  }

  [Symbol.dispose](): void {
    this.pump[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
    this.#other[Symbol.dispose]();
  }

  #post(lo: number, hi: number): void {
    const at = this.#other.sqe();
    prepMsgRing(this.#other.sqes, at, this.#ring.fd, 0, lo, hi);
    setUserData(this.#other.sqes, at, 0, CAUGHT);
    this.#other.submit();
    this.#other.reap(() => {});
  }

  #catching(): Ring {
    const ring = this.#ring;
    const see = () => this.#see();
    return {
      sqes: ring.sqes,
      sqe: () => {
        see();
        const at = ring.sqe();
        this.#unseen.push(at);
        return at;
      },
      get unsubmitted() {
        return ring.unsubmitted;
      },
      submitAndWait: (count: number, timeoutNs?: number) => {
        see();
        if (ring.unsubmitted > 0 && this.refusals-- > 0) return -ERRNO.EAGAIN;
        return ring.submitAndWait(count, timeoutNs);
      },
      reap: (on: Parameters<Ring["reap"]>[0]) =>
        ring.reap((lo, hi, result, flags) => hi !== CAUGHT && on(lo, hi, result, flags)),
      registerEventfd: (fd: number) => ring.registerEventfd(fd),
      setEventfdEnabled: (isEnabled: boolean) => ring.setEventfdEnabled(isEnabled),
    } as unknown as Ring;
  }

  #see(): void {
    const { sqes } = this.#ring;
    for (const at of this.#unseen.splice(0)) {
      if ((sqes[at]! & 0xff) !== IORING_OP.URING_CMD || sqes[at + 1] !== CHAR_FD) continue;
      if (sqes[at + 2] === (UBLK_IO.COMMIT_AND_FETCH_REQ | 0)) {
        this.commits.push(`${sqes[at + 12]! & 0xffff}.${sqes[at + 12]! >>> 16}=${sqes[at + 13]}`);
        this.onCommit();
      }
      prepNop(sqes, at);
      setUserData(sqes, at, 0, CAUGHT);
    }
  }
}

test("requests wake a thread asleep in its event loop, to the queue they belong to", async () => {
  const offsets: number[] = [];
  using bench = new Bench((offset) => void offsets.push(offset / BYTES));
  for (const [n, [lane, tag]] of [
    [0, 1],
    [1, 3],
    [0, 0],
    [1, 1],
  ].entries()) {
    await Bun.sleep(5); // Long enough to be asleep by then; no harm if not.
    bench.deliver(lane!, tag!);
    await bench.until(n + 1);
  }
  expect(bench.commits).toEqual(["0.1=4096", "1.3=4096", "0.0=4096", "1.1=4096"]);
  expect(offsets).toEqual([1, 7, 0, 5]);
  bench.tell("leave");
  await bench.ended;
  expect(bench.drained).toBeGreaterThan(0);
});

test("promises of timers, sockets and files settle, and are committed without another request", async () => {
  using server = Bun.serve({ port: 0, fetch: () => new Response("x".repeat(BYTES)) });
  using bench = new Bench(async (offset, into) => {
    if (offset === 0) await Bun.sleep(3);
    if (offset === BYTES) into.set(await (await fetch(server.url)).bytes());
    if (offset === 2 * BYTES) await Bun.file(import.meta.path).text();
  });
  for (const tag of [0, 1, 2]) bench.deliver(0, tag);
  await bench.until(3);
  expect(bench.commits.toSorted()).toEqual(["0.0=4096", "0.1=4096", "0.2=4096"]);
  bench.tell("leave");
  await bench.ended;
});

test("a ring that is never quiet does not starve timers", async () => {
  let served = 0;
  const clock = { ticks: 0 };
  const timer = setInterval(() => clock.ticks++, 1);
  using bench = new Bench(() => {
    served++;
    // Each request brings the next one before the thread could sleep.
    if (clock.ticks < 10) bench.deliver(0, 0);
  });
  bench.deliver(0, 0);
  while (clock.ticks < 10) await Bun.sleep(1);
  clearInterval(timer);
  expect(served).toBeGreaterThan(10);
  bench.tell("leave");
  await bench.ended;
});

test("what never settles is given up by the beat, with nothing else going on", async () => {
  using bench = new Bench(() => new Promise<void>(() => {}));
  bench.deliver(1, 2);
  await bench.until(1);
  expect(bench.commits).toEqual(["1.2=-110"]);
  bench.tell("leave");
  await bench.ended;
});

test("letting go waits for promises", async () => {
  let settle = () => {};
  using bench = new Bench(
    () =>
      new Promise<void>((resolve) => {
        settle = resolve;
      }),
  );
  bench.deliver(0, 0);
  await Bun.sleep(5);
  bench.tell("leave");
  await Bun.sleep(5);
  expect([bench.commits, bench.drained]).toEqual([[], 0]);
  settle();
  await bench.ended;
  expect(bench.commits).toEqual(["0.0=4096"]);
});

test.each(["leave", "drain"] as const)(
  "%s waits for a kernel that is short of memory",
  async (order) => {
    let settle = () => {};
    using bench = new Bench(
      () =>
        new Promise<void>((resolve) => {
          settle = resolve;
        }),
    );
    bench.deliver(0, 0);
    await Bun.sleep(5);
    bench.tell(order);
    await Bun.sleep(5);
    bench.refusals = 3;
    settle();
    const isTold = () => order === "leave" || bench.drained > 0;
    while (!isTold()) await Bun.sleep(1);
    bench.tell("leave");
    await bench.ended;
    expect(bench.refusals).toBeLessThan(1);
    expect([bench.unsubmitted, bench.behind]).toEqual([0, 0]);
  },
);
