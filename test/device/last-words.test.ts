// What is told of a server that died while it was starting.

import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";

import { lastWords } from "../../src/device/log-file.ts";

const EARLIER = "2026-11-28T00:00:00.000Z error of an earlier server\n";

test.each([
  [
    "queue worker died: Error: no luck\n    at start (disk.ts:3:9)\n",
    "queue worker died: Error: no luck",
  ],
  ["2026-11-28T00:00:01.000Z fatal it is over\n", "it is over"],
  ["queue worker died: no\n2026-11-28T00:00:01.000Z info live: pid 7\n", "queue worker died: no"],
  ["2026-11-28T00:00:01.000Z info live: pid 7\n", ""],
  ["", ""],
])("of %j it is %j", (text, words) => {
  const folder = mkdtempSync("/tmp/words-");
  writeFileSync(`${folder}/log`, EARLIER + text);
  const fd = openSync(`${folder}/log`, "r");
  try {
    expect(lastWords(fd, EARLIER.length)).toBe(words);
  } finally {
    closeSync(fd);
    rmSync(folder, { recursive: true });
  }
});
