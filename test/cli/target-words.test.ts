// The target is known before the words are checked: its options are the command's.

import { expect, test } from "bun:test";
import { resolve } from "node:path";

import { addCommand } from "../../src/cli/commands/add.ts";
import { checkCommand } from "../../src/cli/commands/check.ts";
import { recoverCommand } from "../../src/cli/commands/recover.ts";
import { targetByOption, targetByWord, targetNamed } from "../../src/cli/target-words.ts";

const words = (line: string) => line.split(" ").filter(Boolean);

test.each([
  "null",
  "-t null",
  "-tnull",
  "--target=null",
  "--type null",
  "-q 2 null",
  "-q 2 -t null",
])("add %s names null", (line) => expect(targetByWord(words(line))?.name).toBe("null"));

test("dashes and underscores are the same", () => {
  expect(targetNamed("fault-inject").name).toBe("fault_inject");
});

test.each(["0", "0 null", "-n 0", "0 -- --target null"])("recover %s names no target", (line) => {
  expect(targetByOption(words(line))).toBeUndefined();
});

test.each([
  ["--size 1GiB", "Which target?"],
  ["-q 2", "Which target?"],
  ["nul", 'Unknown target "nul"'],
  ["-t fault_injekt", 'Unknown target "fault_injekt"'],
])("add %s: %s", (line, sentence) => {
  expect(() => addCommand(words(line))).toThrow(sentence);
});

test("a slip in a target's name is told", () => {
  try {
    targetNamed("nul");
  } catch (error) {
    expect(error).toMatchObject({ exitCode: 2, hint: "did you mean null?" });
    return;
  }
  throw new Error("nul is no target");
});

test.each(["./disk.ts", "disk.ts", "/srv/disk"])("a path, %s, names that file", (name) =>
  expect(targetNamed(name).name).toBe(resolve(name)),
);

test("a filter's file is not taken for the target", () => {
  const args = addCommand(words("--filter ./log.ts ./disk.ts")).args;
  expect(args).toHaveProperty("param");
  expect(() => addCommand(words("--filter ./log.ts"))).toThrow("Which target?");
});

test.each([
  "--seed 7 ./disk.ts",
  "--param size=1MiB ./disk.ts",
  "--param=size=1MiB ./disk.ts",
  "--env KEY ./disk.ts",
  "--io_timeout 5s ./disk.ts --json",
  "--filter ./log.ts ./disk.ts",
  "--filter cow=over",
])("check %s: a file, or none", (line) => {
  expect(checkCommand(words(line)).args).not.toHaveProperty("file");
});

test.each(["--filter cow=over loop -f x", "--seed 7 loop -f x", "-f ./x.ts loop --json"])(
  "check %s: loop",
  (line) => expect(checkCommand(words(line)).args).toHaveProperty("file"),
);

test("recover --target takes the target's options, and needs no size", async () => {
  const args = (await recoverCommand(words("0 --target null"))).args as Record<
    string,
    { default?: string }
  >;
  expect(args).toHaveProperty("size");
  expect(args["size"]).not.toHaveProperty("default");
  expect((await recoverCommand(words("0"))).args).not.toHaveProperty("size");
});
