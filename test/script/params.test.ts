// Parameters of a target file: words to values, and back to what is kept.

import { expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import type { Params } from "ublk-bun";

import { checkWords, claimedFiles, declarationProblem, valuesOf } from "../../src/script/params.ts";

const declared = {
  path: { type: "path", required: true, help: "file that holds the blocks" },
  other: { type: "path", shared: true },
  size: { type: "size", default: "64MiB" },
  ratio: { type: "number" },
  fast: { type: "boolean", default: "no" },
  kind: { type: "string", oneOf: ["a", "b"], default: "a" },
} as const satisfies Params;

const values = (...words: string[]) => valuesOf(declared, checkWords(declared, words));

test("words become values of their types, defaults fill the rest", () => {
  expect(values("path=x", "size=4k", "ratio=-1.5", "fast=yes", "kind=b")).toEqual({
    path: resolve("x"),
    other: undefined,
    size: 4096,
    ratio: -1.5,
    fast: true,
    kind: "b",
  });
  expect(values("path=/a=b")["path"]).toBe("/a=b");
  expect(values("path=/x")["size"]).toBe(64 * 1024 ** 2);
});

test("what is kept has absolute paths, and only what was given", () => {
  expect(checkWords(declared, ["path=x", "kind=b"])).toEqual([`path=${resolve("x")}`, "kind=b"]);
});

test("no second disk may use a path, unless it is shared", () => {
  expect(claimedFiles(declared, ["path=/x", "other=/y", "kind=a"])).toEqual(["/x"]);
});

test("a file that is the default is kept and claimed like one that was given", () => {
  const params = { path: { type: "path", default: "blocks" } } as const satisfies Params;
  const words = checkWords(params, []);
  expect(words).toEqual([`path=${resolve("blocks")}`]);
  expect(claimedFiles(params, words)).toEqual([resolve("blocks")]);
  expect(valuesOf(params, words)).toEqual({ path: resolve("blocks") });
});

test("a secret is the text of a file; the path is kept, the text is not", () => {
  const file = join(tmpdir(), `secret-${process.pid}`);
  writeFileSync(file, "hush\n");
  try {
    const params = { key: { type: "secret" } } as const;
    const words = checkWords(params, [`key=${file}`]);
    expect(words).toEqual([`key=${file}`]);
    expect(valuesOf(params, words)).toEqual({ key: "hush" });
  } finally {
    rmSync(file);
  }
});

const refused: readonly (readonly [words: string[], said: string])[] = [
  [[], 'The parameter "path" is missing (file that holds the blocks)'],
  [["path"], '--param "path" is not of the form key=value'],
  [["path="], 'The parameter "path" is empty'],
  [["path=a", "path=b"], 'The parameter "path" is given twice'],
  [["path=a", "sise=1"], 'Unknown parameter "sise"'],
  [["path=a", "toString=1"], 'Unknown parameter "toString"'],
  [["path=a", "size=big"], 'The parameter "size" "big" is not a size'],
  [["path=a", "ratio="], 'The parameter "ratio" is not a number: ""'],
  [["path=a", "fast=maybe"], 'The parameter "fast" is not true or false: "maybe"'],
  [["path=a", "kind=c"], 'The parameter "kind" cannot be "c"'],
];

for (const [words, said] of refused) {
  test(`${words.join(" ") || "nothing"}: ${said}`, () => {
    expect(() => checkWords(declared, words)).toThrow(said);
  });
}

test("a secret whose file is not there", () => {
  const params = { key: { type: "secret" } } as const;
  expect(() => checkWords(params, ["key=/not/there"])).toThrow(
    "the file of the secret cannot be read",
  );
});

test("a declaration is checked too", () => {
  expect(declarationProblem(declared)).toBeUndefined();
  expect(declarationProblem(undefined)).toBeUndefined();
  expect(declarationProblem({ a: { type: "date" } })).toContain("params.a.type is not one of");
  expect(declarationProblem({ a: { type: "size", default: 4 } })).toContain("is not a string");
  expect(declarationProblem({ a: { type: "size", default: "x" } })).toContain("is not a size");
  expect(declarationProblem({ "a=b": { type: "size" } })).toContain("is not a name");
});
