// A file as a target: its spec, and what recovery asks of it.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { parseArgs } from "citty";

import { strictWords } from "../../src/cli/strict.ts";
import { targetByWord } from "../../src/cli/target-words.ts";
import {
  changedCode,
  checkBatch,
  checkCode,
  isOwnCode,
  serverEnv,
  withCodeOfNow,
} from "../../src/device/code.ts";
import type { DeviceRecord } from "../../src/device/store.ts";
import { UBLK_F } from "../../src/ffi/ublk.ts";
import { parseFilters } from "../../src/filters/index.ts";
import { targetOf } from "../../src/filters/stack.ts";
import type { Spec } from "../../src/target.ts";
import { dataOf } from "../../src/target.ts";
import { findTarget } from "../../src/targets/index.ts";

const folder = mkdtempSync(join(tmpdir(), "script-target-"));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;

function write(text: string): string {
  const file = join(folder, `disk${count++}.ts`);
  writeFileSync(file, `import { defineRingTarget, defineTarget } from "ublk-bun";\n${text}`);
  return file;
}

async function specOf(file: string, ...words: string[]): Promise<Spec> {
  const target = findTarget(file);
  await target.load?.();
  return target.parse(parseArgs(strictWords(words, target.args), target.args) as never);
}

const record = (file: string, spec: Spec) =>
  ({ id: 7, target: file, spec, mode: "copy", flags: "0x0" }) as unknown as DeviceRecord;

const FILE = `export default defineTarget({
  params: { path: { type: "path" }, size: { type: "size" } }, perQueue: true,
  open: () => { throw new Error(); } });`;

test("its spec is plain JSON: words, names, code and claims", async () => {
  const file = write(FILE);
  const words = ["-p", "path=/x/y", "--param=size=4k", "--env", "HOME", "--io-timeout", "2s"];
  const spec = await specOf(file, ...words);
  expect(spec).toEqual({
    kind: "target",
    data: "address",
    perQueue: true,
    fanOut: 1,
    params: ["path=/x/y", "size=4k"],
    env: ["HOME"],
    ioTimeoutMs: 2000,
    sources: [expect.stringMatching(new RegExp(`^[0-9a-f]{64}  ${file}$`))],
    claims: ["/x/y"],
  });
  expect(JSON.parse(JSON.stringify(spec))).toEqual(spec);
  const target = findTarget(file);
  expect(target.hosting?.(spec)).toBe("each");
  expect(target.files?.(spec)).toEqual(["/x/y"]);
});

test("a ring target says what it needs of the data", async () => {
  const file = write(`export default defineRingTarget({ data: "transfer", sqesPerRequest: 3,
    open: () => ({ sizeBytes: 8192, fds: [], facts: { a: 1 }, volatileCache: true }),
    serve: ({ facts, params }) => ({ start() {}, finish() {}, facts, params }) });`);
  const target = findTarget(file);
  const spec = await specOf(file);
  expect([dataOf(target, spec), target.hosting?.(spec)]).toEqual(["transfer", undefined]);
  expect(target.fanOut?.(spec, {} as never)).toBe(3);
  const context = { deviceId: 0, identity: "x", isNew: true, note: () => {} };
  await using backing = await target.open(spec, context);
  expect(backing.geometry).toMatchObject({ sizeBytes: 8192, volatileCache: true });
  const handler = target.serve(spec, { facts: backing.facts, fds: [], queue: {} as never });
  expect(handler).toMatchObject({ facts: { a: 1 }, params: {} });
  writeFileSync(file, "\n// another\n", { flag: "a" });
  await expect(target.open(spec, context)).rejects.toThrow(`code has changed: ${file}`);
});

test("a word that is a path names a file, at any place where a target may be named", () => {
  const file = write(FILE);
  for (const words of [["--target", file], [`-t${file}`], [file, "-n0"], ["--json", file]]) {
    expect(targetByWord(words)?.name).toBe(file);
  }
  expect(targetByWord(["disk.ts"])?.name).toBe(join(process.cwd(), "disk.ts"));
});

test("code that has changed is named and refused, unless that is accepted", async () => {
  const file = write(FILE);
  const made = record(file, await specOf(file));
  expect(changedCode(made)).toEqual([]);
  expect(await withCodeOfNow(made)).toBe(made);
  writeFileSync(file, "\n// another\n", { flag: "a" });
  expect(changedCode(made)).toEqual([file]);
  expect(() => checkCode(made, false)).toThrow(`device 7 has changed since it was made: ${file}`);
  checkCode(made, true);
  const now = await withCodeOfNow(made);
  expect(now.spec).not.toEqual(made.spec);
  expect(changedCode(now)).toEqual([]);
});

test("its code is somebody's own: no standby is kept for it", async () => {
  const file = write(FILE);
  expect(isOwnCode(record(file, await specOf(file)))).toBe(true);
  expect(isOwnCode({ target: "loop", spec: {} })).toBe(false);
});

test("its fence gets its parameters, and what it throws is said with its place", async () => {
  const file = write(`export default defineTarget({
    params: { path: { type: "path" } },
    fence({ path }, { identity }) {
      if (path !== "/x/y") throw new Error("no way to " + path);
      globalThis.fenced = identity;
    },
    open: () => { throw new Error(); } });`);
  const target = findTarget(file);
  const spec = await specOf(file, "-p", "path=/x/y");
  expect(spec).toMatchObject({ hasFence: true });
  await target.fence?.(spec, { identity: "7" });
  expect(globalThis).toMatchObject({ fenced: "7" });
  const bad = await specOf(file, "-p", "path=/z");
  const failed = Promise.resolve(target.fence?.(bad, { identity: "7" }));
  await expect(failed).rejects.toThrow(`${file}:5:38: fence failed: no way to /z`);
  writeFileSync(file, "\n", { flag: "a" });
  const changed = Promise.resolve(target.fence?.(spec, { identity: "7" }));
  await expect(changed).rejects.toThrow("The target's code has changed");
  expect(await specOf(write(FILE))).not.toHaveProperty("hasFence");
});

test("what says that a request must not run twice makes a disk of which none does", async () => {
  const plain = write(FILE);
  const once = write(FILE.replace("perQueue: true", "repeatable: false"));
  const filter = write("");
  writeFileSync(
    filter,
    `import { defineFilter } from "ublk-bun";
    export default defineFilter({ repeatable: false, open: () => ({}) });`,
  );
  const filters = await parseFilters([filter]);
  const answers = await Promise.all(
    [{ target: plain }, { target: once }, { target: plain, filters }].map(async (made) => {
      const spec = await specOf(made.target);
      return targetOf({ ...made, spec }).repeatable?.(spec) !== false;
    }),
  );
  expect(answers).toEqual([true, false, false]);
});

test("batch commands are for ring targets alone", async () => {
  const file = write(FILE);
  const spec = await specOf(file);
  expect(() => checkBatch({ target: file, spec }, UBLK_F.BATCH_IO)).toThrow("--batch");
  checkBatch({ target: file, spec }, 0n);
  checkBatch({ target: file, spec: { ...spec, kind: "ring" } }, UBLK_F.BATCH_IO);
  checkBatch({ target: "null", spec: {} }, UBLK_F.BATCH_IO);
});

test("variables reach the server by name; one that is not set is said", async () => {
  const file = write(FILE);
  process.env["SCRIPT_TEST"] = "value";
  try {
    const made = record(file, await specOf(file, "--env", "SCRIPT_TEST"));
    expect(JSON.stringify(made)).not.toContain("value");
    expect(serverEnv(made)).toEqual({ SCRIPT_TEST: "value" });
    delete process.env["SCRIPT_TEST"];
    expect(() => serverEnv(made)).toThrow("The variable SCRIPT_TEST is not set");
  } finally {
    delete process.env["SCRIPT_TEST"];
  }
  for (const name of ["LD_PRELOAD", "BUN_OPTIONS", "A=b", "1"]) {
    await expect(specOf(file, "--env", name)).rejects.toThrow("--env");
  }
  expect(serverEnv({ target: "null", spec: {} })).toEqual({});
});
