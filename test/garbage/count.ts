// Serves a million requests after a warm-up, under a runtime that reports its collections on stderr.
// Prints how far the heap has grown meanwhile; marks on stderr where the million begins and ends.
//
//   BUN_JSC_logGC=1 bun test/garbage/count.ts TARGET DEPTH ordinary|batch copy|user-copy FOLDER

import { heapSize } from "bun:jsc";
import { writeSync } from "node:fs";

import { parseArgs } from "citty";

import {
  type RingHandler,
  type ServeContext,
  type Spec,
  VALUE_SEPARATOR,
} from "../../src/target.ts";
import { findTarget } from "../../src/targets/index.ts";
import { nullTarget } from "../../src/targets/null.ts";
import { EndlessQueue } from "../support/endless-queue.ts";

export const BEGIN = "-- the million begins";
export const END = "-- the million ends";
const WARM_UP = 300_000;
const REQUESTS = 1_000_000;
const SIZE_BYTES = 1024 ** 2;

/** Every target that serves requests in the ring, and its words for these files. */
export const WORDS: Readonly<Record<string, (files: readonly string[]) => string[]>> = {
  null: () => [],
  loop: ([file]) => ["-f", file!, "--buffered-io"],
  mem: () => ["--size=1M"],
  stripe: (files) => ["-f", files.join(VALUE_SEPARATOR), "--buffered-io"],
  fault_inject: () => [],
};

const kept: unknown[] = [];

/** null with an object for every request, to see the count work. */
const wasteful = {
  ...nullTarget,
  serve: (_spec: Spec, { queue }: ServeContext): RingHandler => ({
    kind: "ring",
    start: (tag) => {
      kept[tag] = { tag };
      queue.complete(tag, queue.lengthBytes(tag));
    },
    finish: () => {},
  }),
};

if (import.meta.main) {
  const [name = "", depth = "", commands = "", words = "", folder = ""] = process.argv.slice(2);
  const mode = words === "user-copy" ? words : "copy";
  const target = name === "wasteful" ? wasteful : findTarget(name);
  const files = [0, 1].map((i) => `${folder}/${name}-${i}`);
  for (const file of files) await Bun.write(file, new Uint8Array(SIZE_BYTES));
  const spec = target.parse(parseArgs(WORDS[name]?.(files) ?? [], target.args) as never);
  const context = { deviceId: 0, identity: "f00dfeedf00dfeed", isNew: true, note: () => {} };
  await using backing = await target.open(spec, context);
  const isBatch = commands === "batch";
  const options = { target, spec, backing, depth: Number(depth), isBatch, mode } as const;
  using endless = new EndlessQueue(options);
  endless.serve(WARM_UP);
  Bun.gc(true);
  const before = heapSize();
  writeSync(2, `${BEGIN}\n`);
  endless.serve(REQUESTS);
  writeSync(2, `${END}\n`);
  console.log(JSON.stringify({ grownBytes: heapSize() - before }));
  await target.remove?.(spec, context);
}
