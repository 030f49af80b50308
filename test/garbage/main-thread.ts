// Collects garbage in the main thread while a Worker's ring goes round, and says how the ring fared.
//
//   bun test/garbage/main-thread.ts      {"longestMs": …, "pace": …}
//
// `pace` is the ring's speed during collections to its speed beside a main thread that sleeps as long.

import { median } from "../../bench/results.ts";

const ROUNDS = 9;
const OBJECTS = 1_500_000;
const WARM_MS = 500;

const shared = new SharedArrayBuffer(4);
const served = new Int32Array(shared);
const worker = new Worker(new URL("./main-thread.worker.ts", import.meta.url).href);
worker.postMessage(shared);
await new Promise((resolve) => worker.addEventListener("message", resolve, { once: true }));
await Bun.sleep(WARM_MS);

/** Rounds of the ring a ms. */
async function paceDuring(what: () => unknown): Promise<{ pace: number; ms: number }> {
  const [before, began] = [Atomics.load(served, 0), performance.now()];
  await what();
  const ms = performance.now() - began;
  return { pace: ((Atomics.load(served, 0) - before) | 0) / ms, ms };
}

// All of it lives: the collector has to look at every object.
const kept = Array.from({ length: OBJECTS }, (_, n) => ({ n, more: [n] }));
const paces: number[] = [];
const lengths: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const collecting = await paceDuring(() => Bun.gc(true));
  const idle = await paceDuring(() => Bun.sleep(collecting.ms));
  paces.push(collecting.pace / idle.pace);
  lengths.push(collecting.ms);
}
console.log(JSON.stringify({ longestMs: Math.max(...lengths), pace: median(paces) }));
process.exit(kept.length === OBJECTS ? 0 : 1);
