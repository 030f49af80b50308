// Collects garbage in the main thread while a Worker's ring goes round, and says how the ring fared.
//
//   bun test/garbage/main-thread.ts      {"collectionMs": …, "gapMs": …, "pace": …}, medians
//
// `gapMs` is the longest time between two rounds of the ring during a collection; `pace` the ring's speed
// then to its speed beside a main thread that sleeps as long.

import { median } from "../../bench/results.ts";

const ROUNDS = 9;
const OBJECTS = 1_500_000;
const WARM_MS = 500;

const shared = new SharedArrayBuffer(8);
/** Rounds so far, and the longest gap in µs. */
const seen = new Int32Array(shared);
const worker = new Worker(new URL("./main-thread.worker.ts", import.meta.url).href);
worker.postMessage(shared);
await new Promise((resolve) => worker.addEventListener("message", resolve, { once: true }));
await Bun.sleep(WARM_MS);

async function during(what: () => unknown) {
  Atomics.store(seen, 1, 0);
  const [before, began] = [Atomics.load(seen, 0), performance.now()];
  await what();
  const ms = performance.now() - began;
  const pace = ((Atomics.load(seen, 0) - before) | 0) / ms;
  return { ms, pace, gapMs: Atomics.load(seen, 1) / 1000 };
}

// All of it lives: the collector has to look at every object.
const kept = Array.from({ length: OBJECTS }, (_, n) => ({ n, more: [n] }));
const rounds: { collectionMs: number; gapMs: number; pace: number }[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const { ms: collectionMs, gapMs, pace } = await during(() => Bun.gc(true));
  const idle = await during(() => Bun.sleep(collectionMs));
  rounds.push({ collectionMs, gapMs, pace: pace / idle.pace });
}
const of = (what: "collectionMs" | "gapMs" | "pace") => median(rounds.map((each) => each[what]));
console.log(
  JSON.stringify({ collectionMs: of("collectionMs"), gapMs: of("gapMs"), pace: of("pace") }),
);
process.exit(kept.length === OBJECTS ? 0 : 1);
