// A file as a filter like any other: its name is its path, its spec says what code it was made with.

import type { DiskBelow, FilterDisk, FilterOptions } from "ublk-bun";

import { assert, placeOf } from "../errors.ts";
import type { Filter, FilterContext } from "../filter.ts";
import { said } from "./instance.ts";
import { assertSources, loadFilter } from "./load.ts";
import { checkWords, claimedFiles, valuesOf } from "./params.ts";
import { placeOfCall } from "./places.ts";
import { differences, sourcesOf } from "./sources.ts";

type FilterSpec = {
  /** "key=value", paths absolute. */
  readonly params: readonly string[];
  /** The code: "sha256  path" of each file. */
  readonly sources: readonly string[];
  /** Files that no second disk may use. */
  readonly claims: readonly string[];
};

const known = new Map<string, Filter>();

/** The filter of a file, an absolute path; the same one each time. */
export function scriptFilter(file: string): Filter {
  const filter = known.get(file) ?? (new ScriptFilter(file) as unknown as Filter);
  known.set(file, filter);
  return filter;
}

class ScriptFilter implements Filter<FilterSpec> {
  readonly name: string;
  readonly usage: string;
  readonly summary = "a filter whose code is a file of your own";
  #options: FilterOptions<{}> | undefined;

  constructor(file: string) {
    this.name = file;
    this.usage = `${file}[,KEY=VALUE…]`;
  }

  async load(): Promise<void> {
    this.#options ??= await loadFilter(this.name);
  }

  parse(word: string): FilterSpec {
    return this.#spec(word === "" ? [] : word.split(","));
  }

  /** The spec of the same words with the code as it is now. */
  async renew({ params }: FilterSpec): Promise<FilterSpec> {
    await this.load();
    return this.#spec(params);
  }

  changed({ sources }: FilterSpec): readonly string[] {
    return differences(sources, sourcesOf(this.name));
  }

  files({ claims }: FilterSpec): readonly string[] {
    return claims;
  }

  repeatable(): boolean {
    return this.#options?.repeatable !== false;
  }

  async open(below: DiskBelow, spec: FilterSpec, context: FilterContext): Promise<FilterDisk> {
    await this.load();
    assertSources("filter", this.name, spec.sources);
    const options = this.#options!;
    const values = valuesOf(options.params ?? {}, spec.params);
    try {
      return await options.open(below, values as never, context);
    } catch (error) {
      throw said(`${placeOf(error) ?? placeOfCall(this.name, "open")}: open failed`, error);
    }
  }

  #spec(words: readonly string[]): FilterSpec {
    assert(this.#options !== undefined, "a filter's file is loaded before its words are read");
    const declared = this.#options.params ?? {};
    const params = checkWords(declared, words, "");
    return { params, sources: sourcesOf(this.name), claims: claimedFiles(declared, params) };
  }
}
