// When a server that keeps dying is started again, and when not any more.

import { expect, test } from "bun:test";

import { RestartLimit } from "../../src/device/restart-limit.ts";

const policy = { maxRestarts: 4, windowMs: 10_000, backoffMs: 100, backoffMsMax: 300 };

test("the first restart is at once, the pauses double up to a cap, and then it is over", () => {
  const limit = new RestartLimit(policy);
  const pauses = [];
  for (let now = 0; now < 5; now++) {
    const pause = limit.pauseMs(now);
    pauses.push(pause);
    if (pause !== undefined) limit.began(now);
  }
  expect(pauses).toEqual([0, 100, 200, 300, undefined]);
  expect(limit.count).toBe(4);
});

test("restarts outside the window do not count", () => {
  const limit = new RestartLimit(policy);
  for (let i = 0; i < 4; i++) limit.began(i * 1000);
  expect(limit.pauseMs(9999)).toBeUndefined();
  expect(limit.pauseMs(10_000)).toBe(300);
});

test("a server that has lived a while is restarted at once, but counts", () => {
  const limit = new RestartLimit(policy);
  for (let i = 0; i < 3; i++) limit.began(i);
  limit.served(5);
  expect(limit.pauseMs(10)).toBe(300);
  limit.served(1000);
  expect(limit.pauseMs(10)).toBe(0);
  limit.began(10);
  expect(limit.pauseMs(11)).toBeUndefined();
});

test("a restart that was none is taken back; by hand all is forgotten", () => {
  const limit = new RestartLimit({ ...policy, maxRestarts: 1 });
  limit.began(0);
  limit.takeBack();
  expect(limit.pauseMs(1)).toBe(0);
  limit.began(1);
  expect(limit.pauseMs(2)).toBeUndefined();
  limit.forget();
  expect(limit.pauseMs(3)).toBe(0);
});

test("no restart at all is a policy too", () => {
  expect(new RestartLimit({ ...policy, maxRestarts: 0 }).pauseMs(0)).toBeUndefined();
});
