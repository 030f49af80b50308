// Every filter there is: one line each, loaded when it is needed. A filter whose name is a path is that file.

import { resolve } from "../builtin.ts";
import { UsageError } from "../errors.ts";
import type { Filter, FilterSpec } from "../filter.ts";
import { isFilePath } from "../script/file-path.ts";

export const filters: Readonly<Record<string, () => Filter>> = {
  cow: () => (require("./cow.ts") as typeof import("./cow.ts")).cow,
  delay: () => (require("./delay.ts") as typeof import("./delay.ts")).delay,
  error: () => (require("./error.ts") as typeof import("./error.ts")).error,
  rate: () => (require("./rate.ts") as typeof import("./rate.ts")).rate,
  offset: () => (require("./offset.ts") as typeof import("./offset.ts")).offset,
};

/** Finds a filter by name, or by the path of its file. Throws UsageError, which lists the names. */
export function findFilter(name: string): Filter {
  if (isFilePath(name)) {
    const { scriptFilter } = require("../script/filter.ts") as typeof import("../script/filter.ts");
    return scriptFilter(resolve(name));
  }
  if (Object.hasOwn(filters, name)) return filters[name]!();
  const usages = Object.values(filters).map((load) => load().usage);
  throw new UsageError(
    `Unknown filter "${name}"`,
    `a file of your own (./log.ts), or one of: ${usages.join(", ")}`,
  );
}

/** What `--filter` says, in order: "cow=FILE", "./log.ts", "./log.ts,key=value". Throws UsageError. */
export async function parseFilters(words: readonly string[]): Promise<FilterSpec[]> {
  const specs: FilterSpec[] = [];
  for (const word of words) {
    const [, name = "", value = ""] = /^([\w-]+)(?:=(.*))?$/s.exec(word) ?? fileWords(word);
    const filter = findFilter(name);
    await filter.load?.();
    specs.push({ name: filter.name, spec: filter.parse(value) });
  }
  return specs;
}

/** A path, then parameters. */
const fileWords = (word: string) => /^(.*?\.[cm]?[jt]sx?)(?:,(.*))?$/s.exec(word) ?? [word, word];
