// Small files, whole: what the kernel shows with size 0, what is longer than a chunk, what is not to be read.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { readText, writeText } from "../../src/ffi/small-files.ts";

const folder = mkdtempSync(join(tmpdir(), "small-files-"));
afterAll(() => rmSync(folder, { recursive: true }));

const at = (name: string) => join(folder, name);

test("a file of the kernel's is read to its end, whatever its size says", () => {
  expect(readText("/proc/self/mountinfo")).toBe(readFileSync("/proc/self/mountinfo", "utf8"));
});

test.each([0, 1, 16_384, 16_385, 100_000])("%d bytes, and their letters, are read", (length) => {
  const text = "ä".repeat(length / 2).padEnd(length / 2 + (length % 2), "x");
  writeFileSync(at("text"), text);
  expect(readText(at("text"))).toBe(text);
});

test("what is not there, is a folder or a link is not read", () => {
  writeFileSync(at("file"), "text");
  symlinkSync(at("file"), at("link"));
  expect([at("nothing"), folder, at("link")].map(readText)).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});

test("a file is written where there is one", () => {
  writeFileSync(at("there"), "");
  expect(writeText(at("there"), "words")).toBe(true);
  expect(readText(at("there"))).toBe("words");
  expect(writeText(at("not-there"), "words")).toBe(false);
  expect(writeText("/proc/self/oom_score_adj", "no number")).toBe(false);
});
