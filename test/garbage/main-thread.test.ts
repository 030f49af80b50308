// A main thread that collects its garbage does not stop a queue's thread: they share no heap.

import { expect, test } from "bun:test";
import { join } from "node:path";

const COLLECTION_MS_MIN = 10;

test("a ring goes round while the main thread collects", async () => {
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "main-thread.ts")], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const text = await new Response(child.stdout).text();
  expect(await child.exited).toBe(0);
  const { collectionMs, gapMs } = JSON.parse(text) as { collectionMs: number; gapMs: number };
  // Shorter ones would not show what a stop costs.
  expect(collectionMs).toBeGreaterThan(COLLECTION_MS_MIN);
  // A thread that was stopped would stand still for all of it.
  expect(gapMs).toBeLessThan(collectionMs / 2);
}, 120_000);
