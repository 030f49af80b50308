// A guest that was left spoilt, or that died, costs the file it happened to and no other.

import { expect, test } from "bun:test";

import { runFiles } from "./kernel-files.ts";

const ok = (file: string) => `(pass) one\n\n 1 pass\n 0 fail\n=== ${file} ended with 0\n`;
const bad = (file: string) =>
  `(pass) one\nerror: no\n(fail) two\n\n 1 pass\n 1 fail\n=== ${file} ended with 1\n`;

/** Runs `files` in guests that end as `ends` says, and tells which files each was given. */
async function run(files: readonly string[], ends: readonly [string, number, string?][]) {
  const given: string[][] = [];
  const results = await runFiles({
    files,
    command: "bun test",
    fileSecondsMax: 1,
    guest: ({ command }) => {
      const [output, exitCode, problem] = ends[given.length]!;
      given.push(command.split("\n")[0]!.match(/\b[a-z]\.ts\b/g) ?? []);
      const kernelProblems = problem === undefined ? [] : [problem];
      return Promise.resolve({ output, exitCode, kernelLog: "", kernelProblems });
    },
    onOutput: () => {},
  });
  return { given, ...results };
}

test("all in one guest, where nothing stays behind", async () => {
  const { given, passed, failed, failures } = await run(
    ["a.ts", "b.ts"],
    [[ok("a.ts") + bad("b.ts"), 0]],
  );
  expect(given).toEqual([["a.ts", "b.ts"]]);
  expect([passed, failed]).toEqual([2, 1]);
  expect(failures).toEqual(["error: no\n(fail) two"]);
});

test("a device that stays: the rest gets a new guest", async () => {
  const { given, passed, failed } = await run(
    ["a.ts", "b.ts", "c.ts"],
    [
      [ok("a.ts") + bad("b.ts"), 97],
      [ok("c.ts"), 0],
    ],
  );
  expect(given).toEqual([["a.ts", "b.ts", "c.ts"], ["c.ts"]]);
  expect([passed, failed]).toEqual([3, 1]);
});

test("a guest that dies in a file: it has failed, the rest gets a new guest", async () => {
  const { given, passed, failed, failures } = await run(
    ["a.ts", "b.ts", "c.ts"],
    [
      [`${ok("a.ts")}(pass) one\n`, 98, "Kernel panic"],
      [ok("c.ts"), 0],
    ],
  );
  expect(given).toEqual([["a.ts", "b.ts", "c.ts"], ["c.ts"]]);
  expect([passed, failed]).toEqual([2, 1]);
  expect(failures).toEqual([
    "the kernel's log says: Kernel panic",
    "b.ts: the guest ended with 98",
  ]);
});

test("a file that was killed, and one that ran no test, have failed", async () => {
  const { passed, failed, failures } = await run(
    ["a.ts", "b.ts"],
    [
      ["(pass) one\n=== a.ts ended with 137\n", 97],
      ["=== b.ts ended with 0\n", 0],
    ],
  );
  expect([passed, failed]).toEqual([0, 2]);
  expect(failures).toEqual(["a.ts ended with 137", "b.ts ended with 0"]);
});

test("a file whose tests pass, and which then ends badly, has failed", async () => {
  const output = ok("a.ts").replace("ended with 0", "ended with 1");
  const { failed, failures } = await run(["a.ts"], [[output, 0]]);
  expect(failed).toBe(1);
  expect(failures).toEqual(["a.ts ended with 1"]);
});

test("a complaint of the kernel is a failure, though every test has passed", async () => {
  const { failed } = await run(["a.ts"], [[ok("a.ts"), 99, "WARNING: at x"]]);
  expect(failed).toBe(1);
});
