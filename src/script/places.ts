// Where in a person's files something is written, for what went wrong without an exception that says so.

import { readFileSync } from "../builtin.ts";
import { pathsOf, sourcesOf } from "./sources.ts";

/** Nothing is defined in these: comments, strings, templates, and patterns, which may hold a quote. */
const NO_CODE = new RegExp(
  [
    /\/\/[^\n]*|\/\*[^]*?\*\//,
    /"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\[^]|[^`\\])*`/,
    /(?<=[(,=:[!&|?{};]\s*|\breturn\s+)\/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\//,
  ]
    .map(({ source }) => source)
    .join("|"),
  "g",
);

/** What a file's disk is made in. */
const DEFINITION = /\bdefine(?:Ring)?(?:Target|Filter)\s*(?=[(<])|\bexport\s+default\b/;

/** Where a function of that name is written. */
export const placeOfCall = (file: string, name: string): string =>
  findCall(file, name) ?? `${file}:1`;

/** The same; undefined where there is none. */
export function findCall(file: string, name: string): string | undefined {
  const texts = pathsFrom(file).map((path) => [path, codeOf(textOf(path))] as const);
  // In the order of how likely it is the function of the disk.
  for (const find of [definedMember, member, definition, mention]) {
    for (const [path, code] of texts) {
      const at = find(code, name);
      if (at !== undefined) return `${path}:${lineAt(code, at)}`;
    }
  }
  return undefined;
}

/** Where a word is first written in the file or what it imports, comments and strings left out. */
export function findWord(file: string, word: RegExp): string | undefined {
  for (const path of pathsFrom(file)) {
    const code = codeOf(textOf(path));
    const at = code.search(word);
    if (at >= 0) return `${path}:${lineAt(code, at)}`;
  }
  return undefined;
}

/** The number of the first line with it; 1 when there is none. */
export function lineOf(file: string, what: string | RegExp): number {
  const lines = textOf(file).split("\n");
  const at = lines.findIndex((line) =>
    typeof what === "string" ? line.includes(what) : what.test(line),
  );
  return Math.max(0, at) + 1;
}

/** Empty where it cannot be read. */
export function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

const pathsFrom = (file: string) => [...new Set([file, ...pathsOf(sourcesOf(file))])];

/** The text with blanks for what is no code: places stay where they are. */
const codeOf = (text: string) => text.replace(NO_CODE, (each) => each.replace(/[^\n]/g, " "));

const lineAt = (code: string, at: number) => code.slice(0, at).split("\n").length;

/** A method or property in what the file defines. */
function definedMember(code: string, name: string): number | undefined {
  const begin = code.search(DEFINITION);
  if (begin < 0) return undefined;
  const open = code.indexOf("(", begin);
  const end = open < 0 ? code.length : endOf(code, open);
  const at = member(code.slice(begin, end), name);
  return at === undefined ? undefined : begin + at;
}

/** A method or property: the least deep one, as the disk's are; of such the last, which is returned. */
function member(code: string, name: string): number | undefined {
  const before = String.raw`(?<![.\w$])(?<!\bfunction\s*\*?\s*)`;
  const value = String.raw`\s*:\s*(?!true\b|false\b)[\w$(]`;
  const pattern = new RegExp(`${before}${name}(?=\\s*[(<]|${value})`, "g");
  let found: number | undefined;
  let foundDepth = Infinity;
  let depth = 0;
  let counted = 0;
  for (const { 0: text, index } of code.matchAll(pattern)) {
    for (; counted < index; counted++) {
      if (code[counted] === "{") depth++;
      else if (code[counted] === "}") depth--;
    }
    if (depth > foundDepth || !isDefined(code, index, index + text.length)) continue;
    found = index;
    foundDepth = depth;
  }
  return found;
}

/** A method has a body after its parameters, a property stands in an object; a call has neither. */
function isDefined(code: string, at: number, end: number): boolean {
  const colon = /^\s*:/.test(code.slice(end));
  if (colon) return /[{,]\s*$/.test(code.slice(0, at));
  const open = code.indexOf("(", end);
  return /^\s*(?::[^;{}()]*)?\{/.test(code.slice(endOf(code, open)));
}

/** A function, or a variable that holds one. */
function definition(code: string, name: string): number | undefined {
  const pattern = new RegExp(`\\b(?:function\\s*\\*?|const|let|var)\\s+${name}\\b`);
  return foundAt(code.search(pattern));
}

/** Whatever looks like it; what is called of another object is not it. */
const mention = (code: string, name: string) =>
  foundAt(code.search(new RegExp(`(?<!\\.)\\b${name}\\s*\\(|\\b${name}\\s*[:=](?!=)`)));

const foundAt = (at: number) => (at < 0 ? undefined : at);

/** Where the parenthesis that opens at `open` is closed: behind it. */
function endOf(code: string, open: number): number {
  let depth = 0;
  for (let at = open; at < code.length; at++) {
    if (code[at] === "(") depth++;
    else if (code[at] === ")" && --depth === 0) return at + 1;
  }
  return code.length;
}
