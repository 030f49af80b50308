// A main thread that collects its garbage does not stop a queue's thread: they share no heap.

import { expect, test } from "bun:test";
import { join } from "node:path";

/** Two threads of the collector and the queue's share this machine's CPUs; a stopped queue has 0. */
const PACE_MIN = 0.1;
const COLLECTION_MS_MIN = 20;

test("a ring goes round while the main thread collects", async () => {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "main-thread.ts")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const text = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  const { longestMs, pace } = JSON.parse(text) as { longestMs: number; pace: number };
  // Shorter ones would not show what a stop costs.
  expect(longestMs).toBeGreaterThan(COLLECTION_MS_MIN);
  expect(pace).toBeGreaterThan(PACE_MIN);
}, 120_000);
