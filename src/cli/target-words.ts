// Which target a command line names: its options become the command's, so it must be known first.

import type { ArgsDef } from "citty";

import { UsageError } from "../errors.ts";
import { filters } from "../filters/index.ts";
import { isFilePath } from "../script/file-path.ts";
import type { Target } from "../target.ts";
import { findTarget, targets } from "../targets/index.ts";
import { closest } from "./strict.ts";

export const targetNames = Object.keys(targets);

export const targetArg = {
  target: {
    type: "string",
    alias: ["t", "type"] as string[],
    description: `what the disk does: ${targetNames.join(", ")}, or a file: ./disk.ts`,
    valueHint: "TARGET",
  },
} as const satisfies ArgsDef;

export const filterArg = {
  filter: {
    type: "string",
    description:
      "what lies over the target, the first next to it; may be repeated: " +
      `${Object.values(filters)
        .map((load) => load().usage)
        .join(", ")}, or a file: ./log.ts[,KEY=VALUE…]`,
    valueHint: "FILTER",
    repeats: true,
  },
} as const;

/** The target of that name, or of the file of that path. Throws UsageError. */
export function targetNamed(name: string): Target {
  if (isFilePath(name)) return findTarget(name);
  const known = name.replaceAll("-", "_");
  if (targetNames.includes(known)) return findTarget(known);
  const near = closest(name, targetNames);
  throw new UsageError(
    `Unknown target "${name}"`,
    near === undefined ? `targets: ${targetNames.join(", ")}` : `did you mean ${near}?`,
  );
}

/** The target named by --target, -t or --type. */
export function targetByOption(words: readonly string[]): Target | undefined {
  for (const [i, word] of words.entries()) {
    if (word === "--") return undefined;
    const match = /^(?:--target|--type|-t)(?:=(.*))?$/.exec(word) ?? /^-t(.+)$/.exec(word);
    const name = match && (match[1] ?? words[i + 1]);
    // What looks like an option is one: a missing value is for strictWords to tell.
    if (name && !name.startsWith("-")) return targetNamed(name);
  }
  return undefined;
}

/** The same, or a word of its own that is a target's name, or that stands where one should. */
export function targetByWord(all: readonly string[]): Target | undefined {
  const byOption = targetByOption(all);
  // A filter may be a file, too.
  const words = all.filter((_, i) => all[i - 1] !== "--filter");
  if (byOption !== undefined) return byOption;
  const known = words.find((word) => targetNames.includes(word));
  if (known !== undefined) return targetNamed(known);
  // Among words that are no target's name, one that is the path of a program means a file.
  const file = words.find((word) => /^\.{0,2}\/.*\.[cm]?[jt]sx?$/.test(word));
  if (file !== undefined) return targetNamed(file);
  const first = words[0];
  return first === undefined || first.startsWith("-") ? undefined : targetNamed(first);
}

/** What to throw where a target is needed and none is named. */
export function whichTarget(): UsageError {
  const names = targetNames.join(", ");
  return new UsageError("Which target?", `such as --target null; there are: ${names}`);
}
