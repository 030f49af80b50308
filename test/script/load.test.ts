// A target's file as the compiled executable loads it, from another folder, in the main thread and in
// a Worker; and what is said of one that is wrong.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

import { loadDefinition } from "../../src/script/load.ts";

const folder = mkdtempSync(join(tmpdir(), "load-"));
const program = join(folder, "bin/load");
const support = join(import.meta.dir, "../support");

beforeAll(async () => {
  const built = await Bun.build({
    entrypoints: ["load.main.ts", "load.worker.ts", "load-watch.ts"].map((name) =>
      join(support, name),
    ),
    minify: true,
    bytecode: true,
    format: "esm",
    splitting: true,
    compile: {
      outfile: program,
      autoloadBunfig: false,
      autoloadDotenv: false,
      autoloadPackageJson: true,
    },
  });
  expect(built.success).toBe(true);
});

afterAll(() => rmSync(folder, { recursive: true }));

/** Writes files, and loads the first; what main thread and Worker say, which must be the same. */
async function load(files: Readonly<Record<string, string>>): Promise<string> {
  const home = mkdtempSync(join(folder, "user-"));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(home, name)), { recursive: true });
    writeFileSync(join(home, name), text);
  }
  const first = join(home, Object.keys(files)[0]!);
  const child = Bun.spawn([program, first], { cwd: "/", stdout: "pipe", stderr: "inherit" });
  const text = await new Response(child.stdout).text();
  const [main, worker] = text.trim().split("\n");
  expect(main).toStartWith("main: ");
  expect(worker).toBe(main!.replace("main: ", "worker: "));
  return main!.slice("main: ".length).replaceAll(`${home}/`, "");
}

const target = (summary: string) =>
  `export default defineTarget({ summary: ${summary}, open: () => { throw 1; } });\n`;

test("a file finds ublk-bun, its relative imports, packages beside it, and what Bun has", async () => {
  const said = await load({
    "disk.ts": `import { defineTarget, BlockError } from "ublk-bun";
      import { dlopen } from "bun:ffi";
      import { Database } from "bun:sqlite";
      import pack from "pack";
      import { part } from "./lib/part.ts";
      const row = new Database(":memory:").query("select 4 as n").get() as { n: number };
      const c = dlopen("libc.so.6", { getpid: { args: [], returns: "i32" } }).symbols;
      const own = c.getpid() === process.pid;
      using server = Bun.serve({ port: 0, fetch: () => new Response("fetched") });
      const fetched = await (await fetch(server.url)).text();
      const { errno } = new BlockError("ENOSPC");
      ${target("[part, pack, row.n, own, fetched, typeof Bun.S3Client, errno].join()")}`,
    "lib/part.ts": "export enum Part { One = 1 }\nexport const part: Part = Part.One;\n",
    "node_modules/pack/package.json": '{ "name": "pack", "main": "lib/begin.js" }',
    "node_modules/pack/lib/begin.js": 'module.exports = "packed";\n',
    // Nothing that lies in its folder takes the module's place.
    "package.json":
      '{ "name": "ublk-bun", "main": "evil.ts", "imports": { "ublk-bun": "./evil.ts" } }',
    "tsconfig.json": '{ "compilerOptions": { "paths": { "ublk-bun": ["./evil.ts"] } } }',
    "evil.ts": "process.exit(1);\n",
  });
  expect(said).toBe("target 1,packed,4,true,fetched,function,28");
});

test("a ring target", async () => {
  const said = await load({
    "ring.ts": `import { defineRingTarget, IO_OP, prepFsync } from "ublk-bun";
      export default defineRingTarget({ summary: \`\${IO_OP.FLUSH} \${typeof prepFsync}\`,
        data: "transfer", open: () => ({ sizeBytes: 4096, fds: [] }),
        serve: () => ({ start() {}, finish() {} }) });`,
  });
  expect(said).toBe("ring 2 function");
});

const IMPORT = 'import { defineTarget } from "ublk-bun";\n';

const wrong: Readonly<Record<string, readonly [files: Record<string, string>, said: string]>> = {
  "a syntax error": [
    { "a.ts": `${IMPORT}export default defineTarget({\n  a: ;\n});\n` },
    "a.ts:3:6: Unexpected ;",
  ],
  "several syntax errors": [
    { "a.ts": `${IMPORT}export default defineTarget({ open( => ) });\n` },
    'a.ts:2:37: Expected identifier but found "=>" (and 2 more)',
  ],
  "a syntax error in an import": [
    { "a.ts": 'import "./b.ts";\n', "b.ts": "\n\nlet = 4 4;\n" },
    "b.ts:3:",
  ],
  "a missing package": [
    { "a.ts": `${IMPORT}\nimport x from "not-there";\n${target("x")}` },
    "a.ts:3: Cannot find package 'not-there'",
  ],
  "a missing file": [
    { "a.ts": `${IMPORT}import { x } from "./gone.ts";\n${target("x")}` },
    "a.ts:2: Cannot find module './gone.ts'",
  ],
  "a name that its module does not have": [
    { "a.ts": `${IMPORT}import { x } from "./b.ts";\n${target("x")}`, "b.ts": "export {};\n" },
    "a.ts:2: Export named 'x' not found",
  ],
  "an exception at the top": [
    { "a.ts": `${IMPORT}const n: number = 4;\nthrow new Error("no " + n);\n` },
    "a.ts:3:11: no 4",
  ],
  "an object at the top": [{ "a.ts": `${IMPORT}throw { no: 4 };\n` }, "a.ts: Object { no }"],
  "an error with a list of its own": [
    { "a.ts": `${IMPORT}await Promise.any([Promise.reject("a"), Promise.reject("b")]);\n` },
    "a.ts: AggregateError",
  ],
  "null at the top": [{ "a.ts": `${IMPORT}throw null;\n` }, "a.ts: null"],
  "a getter that throws": [
    { "a.ts": `${IMPORT}export default defineTarget({ get open() { throw new Error("no") } });\n` },
    "a.ts:2:54: no",
  ],
  "process.exit at the top": [
    { "a.ts": `${IMPORT}\nprocess.exit(3);\n` },
    "a.ts:3:9: process.exit(3) was called while the file was loaded",
  ],
  "no default export": [
    { "a.ts": `${IMPORT}export const x = 1;\n` },
    "a.ts:1: the file has no default export",
  ],
  "another export": [
    { "a.ts": "\nexport default 4;\n" },
    "a.ts:2: the default export is not a target, it is of type number",
  ],
  "a look-alike": [
    { "a.ts": "export default { kind: 'target', options: { open() {} } };\n" },
    "a.ts:1: the default export is not a target, it is of type object",
  ],
  "no open": [
    { "a.ts": `${IMPORT}\nexport default defineTarget({ open: 4 } as any);\n` },
    "a.ts:3: defineTarget: open is not a function",
  ],
  "a wrong parameter": [
    {
      "a.ts": `${IMPORT}export default defineTarget({ params: { a: { type: "sice" } }, open() {} } as any);`,
    },
    "a.ts:2: defineTarget: params.a.type is not one of string,",
  ],
  "a fence that is none": [
    { "a.ts": `${IMPORT}export default defineTarget({ fence: true, open() {} } as any);` },
    "a.ts:2: defineTarget: fence is not a function",
  ],
  "repeatable that is neither true nor false": [
    { "a.ts": `${IMPORT}export default defineTarget({ repeatable: "no", open() {} } as any);` },
    "a.ts:2: defineTarget: repeatable is not true or false",
  ],
  "perQueue that is neither true nor false": [
    { "a.ts": `${IMPORT}export default defineTarget({ perQueue: 1, open() {} } as any);` },
    "a.ts:2: defineTarget: perQueue is not true or false",
  ],
  "a choice that is no list": [
    {
      "a.ts": `${IMPORT}export default defineTarget({ params: { a: { type: "string", oneOf: "ab" } }, open() {} } as any);`,
    },
    "a.ts:2: defineTarget: params.a.oneOf is not a list of words",
  ],
  "a choice of numbers": [
    {
      "a.ts": `${IMPORT}export default defineTarget({ params: { a: { type: "number", oneOf: [1] } }, open() {} } as any);`,
    },
    "a.ts:2: defineTarget: params.a.oneOf is not a list of words",
  ],
  "a choice of paths": [
    {
      "a.ts": `${IMPORT}export default defineTarget({ params: { a: { type: "path", oneOf: ["x"] } }, open() {} } as any);`,
    },
    "a.ts:2: defineTarget: params.a: a path has no oneOf",
  ],
  "a question mark in the path": [
    { "a?b.ts": target("1") },
    "a?b.ts: code in a path with a question mark cannot be loaded",
  ],
  "a ring target without serve": [
    {
      "a.ts":
        'import { defineRingTarget } from "ublk-bun";\nexport default defineRingTarget({ data: "none", open() {} } as any);',
    },
    "a.ts:2: defineRingTarget: serve is not a function",
  ],
};

for (const [what, [files, said]] of Object.entries(wrong)) {
  test(`${what}: said with file and line`, async () => expect(await load(files)).toStartWith(said));
}

test("a file that is not there: said so, and where to begin", async () => {
  const missing = loadDefinition("/nowhere/disk.ts");
  await expect(missing).rejects.toMatchObject({
    message: "/nowhere/disk.ts: there is no such file",
    hint: expect.stringContaining("ublk-bun init"),
  });
});

test("a folder is no file", async () => {
  await expect(loadDefinition(folder)).rejects.toThrow(`${folder} is not a file`);
});

test.each([
  ["an endless loop", "for (;;);"],
  ["a call that blocks", "Bun.sleepSync(60_000);"],
])("%s at the top ends the process, which says why", async (_what, top) => {
  const file = join(mkdtempSync(join(folder, "user-")), "a.ts");
  writeFileSync(file, `${IMPORT}${top}\n${target("1")}`);
  const child = Bun.spawn([program, file], {
    env: { LOAD_MS: "300" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stderr = await new Response(child.stderr).text();
  const said = "loading it has not ended after 0.3 s, and keeps the thread busy (";
  expect(stderr).toStartWith(`ublk-bun: ${file}: ${said}`);
  expect(await new Response(child.stdout).text()).toBe("");
  expect(await child.exited).toBe(124);
});

test("a promise at the top that does not settle is given up", async () => {
  const file = join(mkdtempSync(join(folder, "user-")), "a.ts");
  writeFileSync(file, `${IMPORT}await new Promise(() => {});\n${target("1")}`);
  const late = loadDefinition(file, 50);
  await expect(late).rejects.toMatchObject({
    message: `${file}: loading it has not ended after 0.05 s`,
    exitCode: 124,
    hint: expect.stringContaining("belongs in open"),
  });
});
