// A million requests through each target make no garbage: the heap does not grow, nothing is collected.

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";

import { BEGIN, END, WORDS } from "./count.ts";

/** What the engine itself may need; a single object a request would be 16 MB. */
const GROWN_BYTES_MAX = 64 * 1024;
const TIMEOUT_MS = 300_000;

interface Count {
  readonly grownBytes: number;
  readonly collections: number;
}

async function count(...words: string[]): Promise<Count> {
  const folder = mkdtempSync("/tmp/garbage-");
  const child = Bun.spawn([process.execPath, join(import.meta.dir, "count.ts"), ...words, folder], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, BUN_JSC_logGC: "1" },
  });
  const [out, log, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  rmSync(folder, { recursive: true });
  if (exitCode !== 0) throw new Error(`count.ts ${words.join(" ")}: exit ${exitCode}\n${log}`);
  // Those of the warm-up are before it: the log is on.
  expect(log.slice(0, log.indexOf(BEGIN))).toContain("GC");
  const counted = log.slice(log.indexOf(BEGIN) + BEGIN.length, log.indexOf(END));
  const { grownBytes } = JSON.parse(out) as { grownBytes: number };
  return { grownBytes, collections: [...counted.matchAll(/\[GC/g)].length };
}

test.each([
  ...Object.keys(WORDS).map((name) => [name, "32", "ordinary", "copy"]),
  ["null", "1", "ordinary", "copy"],
  ["mem", "32", "ordinary", "user-copy"],
  ["loop", "32", "batch", "copy"],
  ["null", "4096", "batch", "copy"],
  ["mem", "32", "batch", "user-copy"],
])(
  "%s, depth %s, %s commands, %s",
  async (...words) => {
    const { grownBytes, collections } = await count(...words);
    expect(collections).toBe(0);
    expect(grownBytes).toBeLessThan(GROWN_BYTES_MAX);
  },
  TIMEOUT_MS,
);

test("a target that makes an object a request is found out", async () => {
  const { grownBytes, collections } = await count("wasteful", "32", "ordinary", "copy");
  expect(grownBytes > GROWN_BYTES_MAX || collections > 0).toBe(true);
}, 300_000);
