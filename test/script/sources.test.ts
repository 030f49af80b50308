// What a target's code is made of.

import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
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

test("the imports of a link lie beside what it leads to", async () => {
  mkdirSync(join(folder, "real"));
  const part = file("real/part.ts", "export const part = 1;");
  const real = file("real/disk.ts", 'import { part } from "./part.ts";\nexport default part;');
  file("part.ts", "export const part = 2;");
  const link = join(folder, "disk.ts");
  symlinkSync(real, link);
  const module = (await import(link)) as { readonly default: number };
  expect(module.default).toBe(1);
  expect(pathsOf(sourcesOf(link))).toEqual([link, part]);
  const before = sourcesOf(link);
  file("real/part.ts", "export const part = 3;");
  expect(differences(before, sourcesOf(link))).toEqual([part]);
});
