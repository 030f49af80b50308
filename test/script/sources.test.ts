// What a target's code is made of.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { differences, pathsOf, sourcesOf } from "../../src/script/sources.ts";

const folder = mkdtempSync(join(tmpdir(), "sources-"));
afterAll(() => rmSync(folder, { recursive: true }));
const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};

test("a file and its relative imports, theirs included; packages are not", async () => {
  file("c.json", "{}");
  file("b.ts", 'import data from "./c.json";\nimport { a } from "./a.ts";\nexport const b = data;');
  const a = file(
    "a.ts",
    'import fs from "node:fs";\nimport x from "pack";\nexport const a = require("./b");',
  );
  const sources = sourcesOf(a);
  expect(pathsOf(sources)).toEqual(["a.ts", "b.ts", "c.json"].map((name) => join(folder, name)));
  const sums = Bun.spawnSync(["sha256sum", ...pathsOf(sources)]).stdout.toString();
  expect(`${sources.join("\n")}\n`).toBe(sums);
});

test("differences name what has changed, come or gone", () => {
  const a = file("a.ts", 'import "./b.ts";\nimport "./c.ts";');
  file("b.ts", "1;");
  file("c.ts", "1;");
  const before = sourcesOf(a);
  expect(differences(before, sourcesOf(a))).toEqual([]);
  file("b.ts", "2;");
  expect(differences(before, sourcesOf(a))).toEqual([join(folder, "b.ts")]);
  file("a.ts", 'import "./b.ts";\nimport "./gone.ts";');
  const changed = ["a.ts", "b.ts", "c.ts", "gone.ts"].map((name) => join(folder, name));
  expect(differences(before, sourcesOf(a))).toEqual(changed);
});
