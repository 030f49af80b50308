// A flush reaches every instance of a disk, and is over when all have flushed.

import { expect, test } from "bun:test";

import { ERRNO } from "../../src/ffi/errno.ts";
import { FlushGroup } from "../../src/queue/flush-group.ts";

let names = 0;

function groups(flushes: readonly (() => unknown)[]): FlushGroup[] {
  const name = `test ${names++}`;
  return flushes.map(
    (flush, member) => new FlushGroup({ name, member, members: flushes.length, flush }),
  );
}

test("all instances flush, and the last one is waited for", async () => {
  const flushed: number[] = [];
  const slow = Promise.withResolvers<void>();
  const [one, two] = groups([
    () => flushed.push(0),
    async () => {
      await slow.promise;
      flushed.push(1);
    },
    () => flushed.push(2),
  ]);
  let isOver = false;
  const all = one!.flushAll().then(() => {
    isOver = true;
  });
  await Bun.sleep(20);
  expect([isOver, flushed.toSorted()]).toEqual([false, [0, 2]]);
  slow.resolve();
  await all;
  expect(flushed).toContain(1);
  await Promise.all([one!.flushAll(), two!.flushAll()]);
  expect(flushed).toHaveLength(9);
});

test("one that fails fails the flush, with its errno", async () => {
  const [one] = groups([
    () => {},
    () => {
      throw Object.assign(new Error("full"), { errno: ERRNO.ENOSPC });
    },
  ]);
  await expect(one!.flushAll()).rejects.toMatchObject({
    name: "BlockError",
    errno: ERRNO.ENOSPC,
    message: "queue 1: full",
  });
  const [other] = groups([() => Promise.reject(new Error("own")), () => {}]);
  await expect(other!.flushAll()).rejects.toThrow("own");
});

test("one that is closed has flushed already", async () => {
  let count = 0;
  const [one, two] = groups([() => {}, () => count++]);
  two!.close();
  await one!.flushAll();
  expect(count).toBe(0);
});

test("a single instance flushes itself", async () => {
  let count = 0;
  const [only] = groups([() => count++]);
  await only!.flushAll();
  expect(count).toBe(1);
});
