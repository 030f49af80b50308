// Where a function of a disk is written: in every example and the template, and among look-alikes.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import { findCall, findWord, placeOfCall } from "../../src/script/places.ts";

const top = resolve(import.meta.dir, "../..");
const folder = mkdtempSync(join(tmpdir(), "places-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** The line at a place, without blanks around it. */
function lineAt(place: string | undefined): string | undefined {
  const [, path, line] = /^(.*):(\d+)$/.exec(place ?? "") ?? [];
  return path && readFileSync(path, "utf8").split("\n")[Number(line) - 1]?.trim();
}

const NOWHERE = undefined;

/** What the line of each begins with. */
const expected: Readonly<Record<string, Readonly<Record<string, string | undefined>>>> = {
  "examples/encrypt.ts": {
    open: "async open({",
    read: "async read(offset, into) {",
    write: "write: (offset, from) =>",
    flush: "flush: () => file.datasync()",
    close: "close: () => file.close()",
  },
  "examples/http.ts": { open: "async open({", read: "async read(offset, into) {", write: NOWHERE },
  "examples/log.ts": { open: "open(below,", read: "read(offset, into) {", flush: NOWHERE },
  "examples/memory.ts": {
    open: "open({",
    read: "read: (offset, into) =>",
    write: "write: (offset, from) =>",
    writeZeroes: "writeZeroes: (offset, length) =>",
    close: NOWHERE,
  },
  "examples/pattern.ts": { open: "open: ({", read: "read(offset, into) {", write: NOWHERE },
  "examples/ring-file.ts": { open: "open({", close: "close: () => closeSync(fd)", read: NOWHERE },
  "examples/sqlite.ts": {
    open: "open({",
    read: "read(offset, into) {",
    write: "write(offset, from) {",
    flush: "flush: commit",
    discard: "discard: clear",
    writeZeroes: "writeZeroes: clear",
    close: "close() {",
  },
  "src/init/template/disk.ts": {
    open: "async open({",
    read: "async read(offset, into) {",
    write: "async write(offset, from) {",
    flush: "flush: () => file.datasync()",
    close: "close: () => file.close()",
  },
};

for (const [file, calls] of Object.entries(expected)) {
  test(file, () => {
    for (const [name, line] of Object.entries(calls)) {
      const found = lineAt(findCall(join(top, file), name));
      expect(found?.slice(0, line?.length ?? Infinity), name).toBe(line!);
    }
  });
}

function write(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
}

test("helpers, parameters, comments, strings and patterns are no functions of the disk", () => {
  const file = write(
    "alike.ts",
    `import { type Disk, defineTarget } from "ublk-bun";
// read(offset) { is below
const quotes = /["'\`]/;
function read(file: string) { return file; }
const helper = { read(x: number) { return x; }, close: true };
export default defineTarget({
  params: { write: { type: "boolean" }, open: { type: "path" } },
  async open({ write, open }) {
    const cache = { read(at: number) { return at; } };
    const text = \`read(x) { return \${quotes} }\`;
    if (read("x")) { cache.read(4); }
    return {
      sizeBytes: 4096,
      async read(offset: number, into: Uint8Array): Promise<void> {
        new ReadableStream({ read() { return 1; } });
      },
      write: async (offset, from) => {},
      flush, close: quotes ? read : undefined,
    };
  },
});
const flush = () => {};
class Other { read() {} }
`,
  );
  const lines = { open: 8, read: 14, write: 17, close: 18, flush: 22 };
  for (const [name, line] of Object.entries(lines)) {
    expect(findCall(file, name), name).toBe(`${file}:${line}`);
  }
  expect(findCall(file, "discard")).toBeUndefined();
});

test("a class, also of another file; a function that is only named; a disk that is put together", () => {
  const other = write("other.ts", "\nexport class Base {\n  async flush() {}\n}\n");
  const file = write(
    "class.ts",
    `import { defineTarget } from "ublk-bun";
import { Base } from "./other.ts";
class Disk extends Base {
  sizeBytes = 4096;
  static async make() { const disk = new Disk(); disk.close = () => disk.discard(0, 4); return disk; }
  read(offset: number, into: Uint8Array) { into.fill(offset); }
}
const open = () => Disk.make();
const target = defineTarget({ open });
export default target;
`,
  );
  expect(findCall(file, "read")).toBe(`${file}:6`);
  expect(findCall(file, "open")).toBe(`${file}:8`);
  expect(findCall(file, "flush")).toBe(`${other}:3`);
  expect(findCall(file, "close")).toBe(`${file}:5`);
  expect(findCall(file, "discard")).toBeUndefined();
  expect(placeOfCall(file, "discard")).toBe(`${file}:1`);
});

test("a word, but not in a comment", () => {
  const file = write("word.ts", "// exit\nconst a = 'exit';\nprocess.exit(a);\n");
  expect(findWord(file, /\bexit\b/)).toBe(`${file}:3`);
});
