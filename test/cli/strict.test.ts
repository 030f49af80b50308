// Command lines are brought into one spelling, and a slip of the fingers is told, not guessed.

import { expect, test } from "bun:test";

import type { ArgsDef } from "citty";

import { closest, strictWords } from "../../src/cli/strict.ts";
import { valuesOf } from "../../src/target.ts";

const args: ArgsDef = {
  kind: { type: "positional", required: false },
  queues: { type: "string", alias: ["q", "queue"] },
  "io-buf-size": { type: "string", valueHint: "SIZE" },
  number: { type: "string", alias: "n" },
  r: { type: "string" },
  json: { type: "boolean" },
};
const bare = { r: { alone: "1", value: /^\d+$/ } };
const words = (line: string) => strictWords(line.split(" ").filter(Boolean), args, bare);

test.each([
  ["-q4", ["--queues=4"]],
  ["-q 4", ["--queues=4"]],
  ["-q=4", ["--queues=4"]],
  ["--queues 4", ["--queues=4"]],
  ["--queue=4", ["--queues=4"]],
  ["--io_buf_size 4KiB", ["--io-buf-size=4KiB"]],
  ["--io-buf-size=4KiB", ["--io-buf-size=4KiB"]],
  ["-n -1", ["--number=-1"]],
  ["-n-1", ["--number=-1"]],
  ["--json", ["--json"]],
  ["--no-json", ["--no-json"]],
  ["null -q 2", ["--queues=2", "--", "null"]],
  ["-r null", ["--r=1", "--", "null"]],
  ["-r 0 null", ["--r=0", "--", "null"]],
  ["-r", ["--r=1"]],
  ["-r --json", ["--r=1", "--json"]],
  ["-- --json", ["--", "--json"]],
  ["", []],
])("%s", (line, expected) => {
  expect(words(line)).toEqual([...expected]);
});

test.each([
  ["--qeues 4", "Unknown option --qeues", "did you mean --queues?"],
  ["--io_buf_sise=4k", "Unknown option --io_buf_sise", "did you mean --io-buf-size?"],
  ["--frobnicate", "Unknown option --frobnicate", "see: ublk-bun help"],
  ["-z", "Unknown option -z", "see: ublk-bun help"],
  ["--queues", "--queues needs a value", "such as --queues VALUE"],
  ["-q --json", "-q needs a value", "such as -q VALUE"],
  ["--io-buf-size", "--io-buf-size needs a value", "such as --io-buf-size SIZE"],
  ["--json=1", '--json takes no value, but got "1"', undefined],
  ["null more", '"more" is one word too many', undefined],
])("%s is refused", (line, message, hint) => {
  let error: unknown;
  try {
    words(line);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toMatchObject({ message, exitCode: 2 });
  expect(error).toHaveProperty("hint", hint);
});

test("an option that may be repeated has all its values, in order; the others are given once", () => {
  const file = { type: "string", alias: "f", repeats: true } as const;
  const line = ["-f", "a", "-q2", "--file=b=c", "-fd e", "--json"];
  const [first, ...rest] = strictWords(line, { ...args, file });
  expect(rest).toEqual(["--queues=2", "--json"]);
  expect(valuesOf(first!.slice("--file=".length))).toEqual(["a", "b=c", "d e"]);
  expect(valuesOf(undefined)).toEqual([]);
  expect(() => strictWords(["-q2", "--queue", "3"], { ...args, file })).toThrow("given twice");
});

test("the nearest word is one that a slip explains", () => {
  expect(closest("recovr", ["add", "recover", "del"])).toBe("recover");
  expect(closest("ad", ["add", "recover", "del"])).toBe("add");
  expect(closest("frobnicate", ["add", "recover", "del"])).toBeUndefined();
});
