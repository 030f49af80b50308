// Words of a command line, checked against the options there are and brought into one spelling.
// citty accepts unknown options and missing values silently; a disk deserves better.

import type { ArgDef, ArgsDef } from "citty";

import { UsageError } from "../errors.ts";
import { VALUE_SEPARATOR } from "../target.ts";

/** What an option that may stand without a value means then, and what of the next word is its value. */
export interface BareOption {
  readonly alone: string;
  /** A word that does not match is not its: "-r 1", but "-r null" names a target. */
  readonly value: RegExp;
}

/** By the option's name. */
export type Bare = Readonly<Record<string, BareOption>>;

interface Option {
  readonly name: string;
  readonly def: ArgDef;
}

/** Returns the same words as `--name=value`, `--flag` and positionals. Throws UsageError. */
export function strictWords(words: readonly string[], args: ArgsDef, bare: Bare = {}): string[] {
  const positionals: string[] = [];
  const options: string[] = [];
  const waiting = [...words];
  for (let word = waiting.shift(); word !== undefined; word = waiting.shift()) {
    if (word === "--") positionals.push(...waiting.splice(0));
    else if (/^-[^-\d]/.test(word)) options.push(readShort(word, waiting, args, bare));
    else if (word.startsWith("--")) options.push(readLong(word, waiting, args, bare));
    else positionals.push(word);
  }
  checkPositionals(positionals, args);
  return [
    ...joinRepeated(options, args),
    ...(positionals.length > 0 ? ["--", ...positionals] : []),
  ];
}

function readLong(word: string, waiting: string[], args: ArgsDef, bare: Bare): string {
  const [, spelled = "", value] = /^--([^=]+)(?:=(.*))?$/s.exec(word) ?? [];
  // The field writes both update_size and update-size.
  const name = spelled.replaceAll("_", "-");
  const option = findOption(name, args);
  if (option) return withValue(option, `--${spelled}`, value, waiting, bare);
  const negated = name.startsWith("no-") ? findOption(name.slice(3), args) : undefined;
  if (negated?.def.type === "boolean" && value === undefined) return `--no-${negated.name}`;
  throw unknown(word.split("=")[0]!, args);
}

function readShort(word: string, waiting: string[], args: ArgsDef, bare: Bare): string {
  const option = findOption(word[1]!, args);
  if (!option) throw unknown(word.slice(0, 2), args);
  const attached = word.slice(2).replace(/^=/, "");
  return withValue(option, word.slice(0, 2), attached === "" ? undefined : attached, waiting, bare);
}

function withValue(
  { name, def }: Option,
  spelled: string,
  attached: string | undefined,
  waiting: string[],
  bare: Bare,
): string {
  if (def.type === "boolean") {
    if (attached === undefined) return `--${name}`;
    throw new UsageError(`${spelled} takes no value, but got "${attached}"`);
  }
  if (attached === "") throw new UsageError(`${spelled} is given an empty value`);
  if (attached !== undefined) return `--${name}=${attached}`;
  const next = waiting[0];
  const optional = bare[name];
  if (optional !== undefined) {
    const isValue = next !== undefined && optional.value.test(next);
    return `--${name}=${isValue ? waiting.shift() : optional.alone}`;
  }
  if (next === undefined || /^-[^\d]/.test(next)) {
    const hint = def.type === "string" ? def.valueHint : undefined;
    throw new UsageError(`${spelled} needs a value`, `such as ${spelled} ${hint ?? "VALUE"}`);
  }
  return `--${name}=${waiting.shift()}`;
}

function findOption(name: string, args: ArgsDef): Option | undefined {
  const found = Object.entries(args).find(
    ([key, def]) => def.type !== "positional" && (key === name || aliases(def).includes(name)),
  );
  return found && { name: found[0], def: found[1] };
}

function aliases(def: ArgDef): string[] {
  const alias = "alias" in def ? def.alias : undefined;
  return alias === undefined ? [] : [alias].flat();
}

/** Of two values one would be lost without a word, where the option is not meant to be repeated. */
function joinRepeated(options: readonly string[], args: ArgsDef): string[] {
  const joined = new Map<string, string>();
  for (const option of options) {
    const [, name, value] = /^([^=]+)=(.*)$/s.exec(option) ?? [];
    if (name === undefined) {
      joined.set(option, option);
      continue;
    }
    const earlier = joined.get(name);
    if (earlier !== undefined && !mayRepeat(name, args)) {
      throw new UsageError(`${name} is given twice`, "give it once");
    }
    joined.set(name, earlier === undefined ? option : `${earlier}${VALUE_SEPARATOR}${value}`);
  }
  return [...joined.values()];
}

/** A target's own marker: citty takes the last of several values. */
function mayRepeat(name: string, args: ArgsDef): boolean {
  const def: ArgDef & { readonly repeats?: boolean } = args[name.slice(2)] ?? {};
  return def.repeats === true;
}

function checkPositionals(words: readonly string[], args: ArgsDef): void {
  const places = Object.values(args).filter(({ type }) => type === "positional").length;
  const extra = words[places];
  if (extra !== undefined) throw new UsageError(`"${extra}" is one word too many`);
}

function unknown(spelled: string, args: ArgsDef): UsageError {
  const known = Object.entries(args)
    .filter(([, def]) => def.type !== "positional")
    .flatMap(([key, def]) => [key, ...aliases(def)])
    .map((name) => (name.length === 1 ? `-${name}` : `--${name}`));
  // Every letter is one slip away from every other.
  const near = spelled.length > 2 ? closest(spelled, known) : undefined;
  return new UsageError(
    `Unknown option ${spelled}`,
    near === undefined ? "see: ublk-bun help" : `did you mean ${near}?`,
  );
}

/** The candidate that a slip of the fingers would explain, if any. */
export function closest(word: string, candidates: readonly string[]): string | undefined {
  const ranked = candidates
    .map((candidate) => ({ candidate, distance: editDistance(word, candidate) }))
    .toSorted((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best && best.distance <= Math.max(1, Math.floor(word.length / 3))
    ? best.candidate
    : undefined;
}

/** Levenshtein's. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(replaced, previous[j]! + 1, current[j - 1]! + 1));
    }
    previous = current;
  }
  return previous[b.length]!;
}
