// Which commands of a test get --batch, and that what runs with it is there.

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { resolve } from "node:path";

import { BATCH_FILES, BATCH_FILES_SHORT } from "./batch.ts";

/** What `withBatch` makes of a line, in a run with or without --batch. */
function words(line: string, value: string): string {
  const code = `const { withBatch } = await import("${import.meta.dir}/batch.ts");
    console.log(withBatch(${JSON.stringify(line.split(" "))}).join(" "));`;
  const env = { ...process.env, UBLK_TEST_BATCH: value };
  const { stdout } = Bun.spawnSync([process.execPath, "-e", code], { env });
  return stdout.toString().trim();
}

test("an add gets --batch in a run with it, once, and where it can be", () => {
  expect(words("add null -n0", "1")).toBe("add null -n0 --batch");
  for (const line of ["add null -b", "add null --get-data", "add null --filter delay=1ms"]) {
    expect(words(line, "1")).toBe(line);
  }
  expect(words("recover 0", "1")).toBe("recover 0");
  expect(words("add null -n0", "")).toBe("add null -n0");
});

test("each file is there, and named once", () => {
  expect(BATCH_FILES.filter((file) => !existsSync(resolve(file)))).toEqual([]);
  expect(new Set(BATCH_FILES).size).toBe(BATCH_FILES.length);
  for (const file of BATCH_FILES_SHORT) expect(BATCH_FILES).toContain(file);
});
