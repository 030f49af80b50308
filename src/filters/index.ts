// Every filter there is: one line each. A filter whose name is a path is that file.

import { resolve } from "node:path";

import { UsageError } from "../errors.ts";
import type { Filter, FilterSpec } from "../filter.ts";
import { isFilePath } from "../script/file-path.ts";
import { scriptFilter } from "../script/filter.ts";
import { cow } from "./cow.ts";
import { delay } from "./delay.ts";
import { error } from "./error.ts";
import { offset } from "./offset.ts";
import { rate } from "./rate.ts";

export const filters: readonly Filter[] = [cow, delay, error, rate, offset];

/** Finds a filter by name, or by the path of its file. Throws UsageError, which lists the names. */
export function findFilter(name: string): Filter {
  if (isFilePath(name)) return scriptFilter(resolve(name));
  const filter = filters.find((candidate) => candidate.name === name);
  if (filter) return filter;
  throw new UsageError(
    `Unknown filter "${name}"`,
    `a file of your own (./log.ts), or one of: ${filters.map(({ usage }) => usage).join(", ")}`,
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
