// A target file's parameters: "key=value" words, checked against what the file declares.

import type { Param, Params } from "ublk-bun";

import { readFileSync, resolve } from "../builtin.ts";
import { messageOf, UblkError, UsageError } from "../errors.ts";
import { parseBytes } from "../units.ts";

export type Values = Record<string, string | number | boolean | undefined>;

const TYPES: readonly Param["type"][] = ["string", "number", "boolean", "size", "path", "secret"];
const BOOLEANS: Readonly<Record<string, boolean>> = {
  true: true,
  yes: true,
  1: true,
  false: false,
  no: false,
  0: false,
};

/** The words as they are kept for recovery: checked, with absolute paths. Throws UsageError. */
export function checkWords(
  declared: Params,
  words: readonly string[],
  option = "--param ",
): string[] {
  const given = new Map<string, string>();
  for (const word of words) {
    const [, key, value] = /^([^=]+)=(.*)$/s.exec(word) ?? [];
    if (key === undefined || value === undefined) {
      throw new UsageError(`${option}"${word}" is not of the form key=value`, known(declared));
    }
    if (given.has(key)) throw new UsageError(`The parameter "${key}" is given twice`);
    const param = Object.hasOwn(declared, key) ? declared[key] : undefined;
    if (param === undefined) throw new UsageError(`Unknown parameter "${key}"`, known(declared));
    given.set(key, kept(key, param, value));
  }
  for (const [key, param] of Object.entries(declared)) {
    if (given.has(key)) continue;
    const { required, help } = param;
    if (required === true) {
      const what = help === undefined ? "" : ` (${help})`;
      throw new UsageError(`The parameter "${key}" is missing${what}`, `give ${option}${key}=…`);
    }
    // A file is the disk's own also when nobody has named it, and stays it when the default is another.
    if (isFile(param) && param.default !== undefined) {
      given.set(key, kept(key, param, param.default));
    }
  }
  return [...given].map(([key, value]) => `${key}=${value}`);
}

const isText = (value: unknown) => typeof value === "string";

const isFile = ({ type }: Param) => type === "path" || type === "secret";

/** The word as it is recorded. Throws what is wrong with it. */
function kept(key: string, param: Param, text: string): string {
  const word = isFile(param) && text !== "" ? resolve(text) : text;
  valueOf(key, param, word);
  return word;
}

/** What `open` gets for the words that `checkWords` returned; secrets are read now. */
export function valuesOf(declared: Params, words: readonly string[]): Values {
  const values: Values = {};
  for (const [key, param] of Object.entries(declared)) {
    const word = words.find((each) => each.startsWith(`${key}=`))?.slice(key.length + 1);
    const text = word ?? param.default;
    values[key] = text === undefined ? undefined : valueOf(key, param, text);
  }
  return values;
}

/** Files that no second disk may use. */
export function claimedFiles(declared: Params, words: readonly string[]): string[] {
  const values = Object.entries(declared).flatMap(([key, param]) => {
    if (param.type !== "path" || param.shared === true) return [];
    return words
      .filter((word) => word.startsWith(`${key}=`))
      .map((word) => word.slice(key.length + 1));
  });
  return values.filter((value) => value !== "");
}

/** What is wrong with a declaration; undefined: nothing. */
export function declarationProblem(declared: unknown): string | undefined {
  if (declared === undefined) return undefined;
  if (typeof declared !== "object" || declared === null) return "params is not an object";
  for (const [key, param] of Object.entries(declared as Record<string, Partial<Param> | null>)) {
    if (!/^[A-Za-z][\w-]*$/.test(key)) return `params: "${key}" is not a name`;
    if (typeof param !== "object" || param === null) return `params.${key} is not an object`;
    if (!TYPES.includes(param.type as Param["type"])) {
      return `params.${key}.type is not one of ${TYPES.join(", ")}`;
    }
    const { oneOf, default: fallback } = param;
    if (oneOf !== undefined) {
      const isList = Array.isArray(oneOf) && oneOf.length > 0 && oneOf.every(isText);
      if (!isList) return `params.${key}.oneOf is not a list of words, as they would be typed`;
      if (isFile(param as Param)) return `params.${key}: a ${param.type} has no oneOf`;
    }
    if (fallback === undefined) continue;
    if (typeof fallback !== "string")
      return `params.${key}.default is not a string, as it would be typed`;
    try {
      if (param.type !== "secret") valueOf(key, param as Param, fallback);
    } catch (error) {
      return `params.${key}.default: ${messageOf(error)}`;
    }
  }
  return undefined;
}

function valueOf(key: string, param: Param, text: string): string | number | boolean {
  const what = `The parameter "${key}"`;
  if (param.oneOf !== undefined && !param.oneOf.includes(text)) {
    throw new UsageError(`${what} cannot be "${text}"`, `one of: ${param.oneOf.join(", ")}`);
  }
  if (param.type === "size") return parseBytes(text, what);
  if (param.type === "secret") return secretIn(text, what);
  if (param.type === "path" && text === "") throw new UsageError(`${what} is empty`, "give a path");
  if (param.type === "number") {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (Number.isFinite(value)) return value;
    throw new UsageError(`${what} is not a number: "${text}"`);
  }
  if (param.type === "boolean") {
    const value = BOOLEANS[text.toLowerCase()];
    if (value !== undefined) return value;
    throw new UsageError(`${what} is not true or false: "${text}"`);
  }
  return text;
}

function secretIn(path: string, what: string): string {
  try {
    return readFileSync(path, "utf8").replace(/\r?\n$/, "");
  } catch (cause) {
    throw new UblkError(`${what}: the file of the secret cannot be read: ${messageOf(cause)}`, {
      cause,
      hint: "a secret is given as the path of a file that holds it",
    });
  }
}

function known(declared: Params): string {
  const names = Object.keys(declared);
  return names.length === 0 ? "it has no parameters" : `there are: ${names.join(", ")}`;
}
