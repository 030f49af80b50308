// The field's -r, -i and -e, and our --recovery, name the same four modes.

import { expect, test } from "bun:test";

import { addCommand, readRecovery } from "../../src/cli/commands/add.ts";
import { subcommands } from "../../src/cli/commands/index.ts";
import { strictWords } from "../../src/cli/strict.ts";
import type { Recovery } from "../../src/device/store.ts";

/** As `add null LINE` would have it, from the words to the mode. */
function recoveryOf(line: string): Recovery | undefined {
  const words = ["null", ...line.split(" ").filter(Boolean)];
  const { bare } = subcommands.find(({ name }) => name === "add")!;
  const { args } = addCommand(words);
  const values = strictWords(words, args as never, bare)
    .filter((word) => word !== "--")
    .map((word) => word.replace(/^--/, "").split("=") as [string, string]);
  return readRecovery(Object.fromEntries(values) as never);
}

test.each([
  // Chosen by the target.
  ["", undefined],
  // In the field it means that what was delivered fails.
  ["-r", "queue"],
  ["-r 0", "none"],
  ["-r 1 -i 1", "reissue"],
  ["-r 1 -i 0", "queue"],
  ["-r1 -i1", "reissue"],
  ["-i 1", "reissue"],
  ["-i 0", "queue"],
  ["-e 1", "fail"],
  ["-r 1 -e 1", "fail"],
  ["-r 0 -i 0 -e 0", "none"],
  ["--recovery", "reissue"],
  ["--recovery 1", "reissue"],
  ["--recovery 0", "none"],
  ["--recovery queue", "queue"],
  ["--recovery=fail", "fail"],
  ["--recovery=none", "none"],
])("%p is %s", (line, expected) => {
  expect<string | undefined>(recoveryOf(line)).toBe(expected);
});

test.each([
  ["-r 0 -i 1", "need recovery"],
  ["-r 0 -e 1", "need recovery"],
  ["-i 1 -e 1", "exclude each other"],
  ["-r 2", '-r is 0 or 1, not "2"'],
  ["-i=yes", '-i is 0 or 1, not "yes"'],
  ["--recovery=queue -r 1", "say the same thing"],
  ["--recovery=sometimes", 'Unknown --recovery "sometimes"'],
  ["--recovery 7", 'Unknown --recovery "7"'],
])("%p is refused", (line, message) => {
  expect(() => recoveryOf(line)).toThrow(message);
});
