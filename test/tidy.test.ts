// Keeps the house tidy: who may import whom, how long a file may be, where FFI and logging live.
// docs/architecture.md has the reasons.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

import { Glob } from "bun";

const LINES_MAX = 400;
const COLUMNS_MAX = 120;

const ANYBODYS = ["errors", "units", "write", "builtin"];

/** Room -> rooms it may import from; its own and those of anybody always. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  units: [],
  write: [],
  builtin: [],
  begun: [],
  log: [],
  spawn: ["ffi"],
  ffi: [],
  ring: ["ffi"],
  target: ["ring"],
  filter: ["target"],
  filters: ["filter", "script", "api", "targets", "target", "queue", "ring", "ffi"],
  targets: ["target", "script", "ring", "ffi"],
  api: ["ring", "ffi"],
  script: ["api", "filter", "target", "ffi", "spawn", "begun"],
  queue: ["filter", "target", "ring", "ffi"],
  worker: ["queue", "targets", "target", "ring", "ffi"],
  "load-watch": ["script", "ffi"],
  "script-worker": ["queue", "filters", "script", "ring", "ffi"],
  check: ["filters", "filter", "script", "api", "targets", "target", "queue", "ring", "ffi"],
  control: ["ring", "ffi"],
  device: [
    "control",
    "script/file-path",
    "queue/protocol",
    "queue/progress",
    "queue/tag",
    "spawn",
    "filters",
    "filter",
    "targets",
    "target",
    "ffi",
    "log",
    "begun",
  ],
  init: ["api"],
  cli: [
    "device",
    "spawn",
    "control",
    "check",
    "init",
    "filters",
    "script",
    "targets",
    "target",
    "ffi",
    "log",
  ],
  main: ["cli"],
};

interface Import {
  readonly from: string;
  readonly to: string;
  readonly typeOnly: boolean;
}

const files = [...new Glob("src/**/*.ts").scanSync()].toSorted();
const source = (file: string) => readFileSync(file, "utf8");

/** src/queue/tag.ts -> queue/tag */
const place = (file: string) => file.replace(/^src\//, "").replace(/\.ts$/, "");
const room = (path: string) => path.split("/")[0]!;

function importsOf(file: string): Import[] {
  const statement = /^(?:import|export)\s+(type\s+)?(?:[^"';]*?from\s+)?"([^"]+)"/gm;
  const dynamic = /\b(?:import|require)\("([^"]+)"\)/g;
  const found = [...source(file).matchAll(statement)].map((match) => ({
    from: place(file),
    to: match[2]!,
    typeOnly: match[1] !== undefined,
  }));
  const lazy = [...source(file).matchAll(dynamic)].map((match) => ({
    from: place(file),
    to: match[1]!,
    typeOnly: false,
  }));
  return [...found, ...lazy]
    .filter(({ to }) => to.startsWith(".") && to.endsWith(".ts"))
    .map((entry) => ({ ...entry, to: place(normalize(join(dirname(file), entry.to))) }));
}

function isAllowed({ from, to, typeOnly }: Import): boolean {
  if (room(from) === room(to) || ANYBODYS.includes(to)) return true;
  if (from === "spawn" && to.endsWith("worker")) return true;
  if (typeOnly && to === "queue/protocol") return true;
  const allowed = MAY_IMPORT[room(from)];
  if (!allowed) throw new Error(`src/${from} is in a room that tidy.test.ts does not know`);
  return allowed.some((name) => to === name || to.startsWith(`${name}/`));
}

test("nobody imports from where they may not", () => {
  const wrong = files
    .flatMap(importsOf)
    .filter((entry) => !isAllowed(entry))
    .map(({ from, to }) => `${from} imports ${to}`);
  expect(wrong).toEqual([]);
});

test("bun:ffi is imported in src/ffi alone, consola in src/log.ts alone", () => {
  const wrong = files.filter((file) => {
    const text = source(file);
    const ffi = /from "bun:ffi"/.test(text) && !file.startsWith("src/ffi/");
    return ffi || (/from "consola/.test(text) && file !== "src/log.ts");
  });
  expect(wrong).toEqual([]);
});

test("modules that every thread would compile anew are imported in src/builtin.ts alone", () => {
  const dear = /^import (?!type )[^;]*?from "node:(fs|fs\/promises|path|util|worker_threads)"/m;
  const wrong = files.filter(
    (file) => dear.test(source(file)) && !file.startsWith("src/init/template/"),
  );
  expect(wrong).toEqual([]);
});

test("only src/cli writes to stdout", () => {
  // The helper's stdout is a pipe to its parent; main answers --version before all else is loaded.
  const exceptions = ["src/device/sender.ts", "src/main.ts"];
  const wrong = files.filter(
    (file) =>
      /process\.stdout|writeAll\((1|output)|console\./.test(source(file)) &&
      file !== "src/cli/output.ts" &&
      !exceptions.includes(file),
  );
  expect(wrong).toEqual([]);
});

test("every file says in its first line what it is for, and is not too long", () => {
  const wrong = files.flatMap((file) => {
    const lines = source(file).split("\n");
    const problems: string[] = [];
    if (!lines[0]!.startsWith("// ")) problems.push(`${file} does not say what it is for`);
    if (lines.length > LINES_MAX) problems.push(`${file} has ${lines.length} lines`);
    const wide = lines.findIndex((line) => line.length > COLUMNS_MAX);
    if (wide >= 0) problems.push(`${file}:${wide + 1} is wider than ${COLUMNS_MAX}`);
    return problems;
  });
  expect(wrong).toEqual([]);
});

test("no enum, namespace, decorator or default export, commands and templates excepted", () => {
  const wrong = files.filter((file) => {
    const text = source(file);
    if (/^(export )?(const )?enum |^(export )?(declare )?namespace |^\s*@\w+\(/m.test(text))
      return true;
    const hasDefault = /^src\/(cli\/commands|init\/template)\//.test(file);
    return /^export default/m.test(text) && !hasDefault;
  });
  expect(wrong).toEqual([]);
});

test("no test is left out or alone", () => {
  const tests = [...new Glob("test/**/*.test.ts").scanSync()].filter(
    (file) => file !== "test/tidy.test.ts",
  );
  const wrong = tests.filter((file) => /\.(skip|todo|only)\(/.test(source(file)));
  expect(wrong).toEqual([]);
});
