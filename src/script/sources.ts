// What a target's code is made of: its file and whatever that imports by a relative path.

import { dirname, readFileSync, realpathSync, resolve } from "../builtin.ts";

/** One file as `sha256sum` prints it: "HASH  /absolute/path". */
type Source = string;

const transpilers = new Map<string, Bun.Transpiler>();

/**
 * The file and its relative imports, theirs included, sorted by path. A file that is not there, or
 * is not a program, counts as it is: importing it says what is wrong with it.
 */
export function sourcesOf(file: string): Source[] {
  const found = new Map<string, string>();
  const waiting = [file];
  for (let path = waiting.pop(); path !== undefined; path = waiting.pop()) {
    if (found.has(path)) continue;
    const bytes = read(path);
    found.set(path, bytes === undefined ? "missing" : hash(bytes));
    if (bytes !== undefined) waiting.push(...relativeImports(path, bytes.toString("utf8")));
  }
  return [...found].map(([path, sum]) => `${sum}  ${path}`).toSorted(byPath);
}

/** The paths of `sources`. */
export const pathsOf = (sources: readonly Source[]) =>
  sources.map((source) => source.slice(source.indexOf("  ") + 2));

/** The paths that are not the same in both: changed, new or gone. */
export function differences(before: readonly Source[], now: readonly Source[]): string[] {
  const unlike = [
    ...before.filter((source) => !now.includes(source)),
    ...now.filter((source) => !before.includes(source)),
  ];
  return [...new Set(pathsOf(unlike))].toSorted();
}

function byPath(a: Source, b: Source): number {
  const [one = "", other = ""] = pathsOf([a, b]);
  return one < other ? -1 : 1;
}

const hash = (bytes: Buffer) => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");

function read(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

function relativeImports(path: string, text: string): string[] {
  const loader = /\.([jt]sx?)$/.exec(path.replace(/\.[cm]([jt]s)$/, ".$1"))?.[1];
  if (loader === undefined) return [];
  let transpiler = transpilers.get(loader);
  if (transpiler === undefined) {
    transpiler = new Bun.Transpiler({ loader: loader as "ts" });
    transpilers.set(loader, transpiler);
  }
  try {
    const names = transpiler.scanImports(text).map((each) => each.path);
    return names.filter((name) => /^\.{0,2}\//.test(name)).map((name) => located(name, path));
  } catch {
    return [];
  }
}

/** As Bun does: beside what a link leads to, not beside the link. */
function located(name: string, importer: string): string {
  const folder = dirname(realpathSync(importer));
  try {
    return Bun.resolveSync(name, folder);
  } catch {
    return resolve(folder, name);
  }
}
