// When a device's standby is started, replaced, taken and let go; the processes are made up.

import { expect, test } from "bun:test";

import { Standby, type Waiting } from "../../src/device/standby.ts";
import type { DeviceRecord } from "../../src/device/store.ts";

const record = (restarts: number) => ({ id: 3, target: "null", restarts }) as DeviceRecord;

class Process implements Waiting {
  static last = 100;
  readonly pid = ++Process.last;
  readonly #end = Promise.withResolvers<number>();
  readonly exited = this.#end.promise;
  abandoned = false;
  go = async () => {};
  live = async () => {};
  abandon(): void {
    this.abandoned = true;
    this.die();
  }
  die(): void {
    this.#end.resolve(1);
  }
}

/** What is started, and by which record. */
class World {
  readonly started: { process: Process; restarts: number }[] = [];
  /** Beginnings that fail before one works. */
  failures = 0;
  slow: Promise<void> = Promise.resolve();
  readonly standby = new Standby(3, async ({ restarts }) => {
    await this.slow;
    if (this.failures-- > 0) throw new Error("no room");
    const process = new Process();
    this.started.push({ process, restarts });
    return process;
  });

  async untilStarted(count: number): Promise<Process> {
    const deadline = performance.now() + 10_000;
    while (this.started.length < count && performance.now() < deadline) await Bun.sleep(1);
    expect(this.started.length).toBe(count);
    await Bun.sleep(0);
    return this.started.at(-1)!.process;
  }
}

test("one for a record, however often it is wanted; another record, another one", async () => {
  const world = new World();
  world.standby.keep(record(0));
  const first = await world.untilStarted(1);
  world.standby.keep(record(0));
  await Bun.sleep(5);
  expect(world.started.length).toBe(1);
  world.standby.keep(record(1));
  const second = await world.untilStarted(2);
  expect(first.abandoned).toBeTrue();
  expect(world.started.map(({ restarts }) => restarts)).toEqual([0, 1]);
  expect(world.standby.take()).toBe(second);
});

test("one that is taken is neither ended nor replaced, until one is wanted again", async () => {
  const world = new World();
  world.standby.keep(record(0));
  const taken = await world.untilStarted(1);
  expect(world.standby.take()).toBe(taken);
  expect(world.standby.take()).toBeUndefined();
  world.standby.drop();
  taken.die();
  await Bun.sleep(5);
  expect(taken.abandoned).toBeFalse();
  expect(world.started.length).toBe(1);
  // Its record could not be saved: it is the same.
  world.standby.keep(record(0));
  await world.untilStarted(2);
  world.standby.drop();
});

test("one that is not ready yet is not taken, and is ended when it is", async () => {
  const world = new World();
  const slow = Promise.withResolvers<void>();
  world.slow = slow.promise;
  world.standby.keep(record(0));
  expect(world.standby.take()).toBeUndefined();
  slow.resolve();
  const late = await world.untilStarted(1);
  expect(late.abandoned).toBeTrue();
  expect(world.standby.take()).toBeUndefined();
});

test("one that dies, or does not get ready, is followed by another", async () => {
  const world = new World();
  world.failures = 1;
  world.standby.keep(record(0));
  const first = await world.untilStarted(1);
  first.die();
  await first.exited;
  await Bun.sleep(0);
  // What it was heard by is closed.
  expect(first.abandoned).toBeTrue();
  expect(world.standby.take()).toBeUndefined();
  world.standby.keep(record(0));
  const second = await world.untilStarted(2);
  expect(world.standby.take()).toBe(second);
});

test("what is not wanted any more is not started again", async () => {
  const world = new World();
  world.standby.keep(record(0));
  const only = await world.untilStarted(1);
  world.standby.drop();
  expect(only.abandoned).toBeTrue();
  await Bun.sleep(1100);
  expect(world.started.length).toBe(1);
});

test("one whose turn comes when it is wanted no more is not started", async () => {
  const turn = Promise.withResolvers<void>();
  const seen: boolean[] = [];
  const standby = new Standby(3, async (_record, isWanted) => {
    await turn.promise;
    seen.push(isWanted());
    return new Process();
  });
  standby.keep(record(0));
  standby.drop();
  turn.resolve();
  await Bun.sleep(5);
  expect(seen).toEqual([false]);
});
