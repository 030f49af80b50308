// A target's file: imported, with the module "ublk-bun" provided to it, and checked. What is wrong
// with it is said with file and line.

import { plugin } from "bun";
import type { Definition, FilterOptions, RingTargetOptions, TargetOptions } from "ublk-bun";

import { api, isDefinition } from "../api/index.ts";
import { existsSync, statSync } from "../builtin.ts";
import { EXIT, messageOf, placeOf, UblkError, UsageError } from "../errors.ts";
import { guardLoading, lateText, LOAD_HINT } from "./guard.ts";
import { declarationProblem } from "./params.ts";
import { lineOf, textOf } from "./places.ts";
import { differences, pathsOf, sourcesOf } from "./sources.ts";

/** What Bun throws for code that it cannot read, or whose imports it cannot find. */
interface BunMessage {
  readonly message: string;
  readonly position?: {
    readonly file: string;
    readonly line: number;
    readonly column: number;
  } | null;
  readonly specifier?: string;
  readonly referrer?: string;
  readonly errors?: readonly BunMessage[];
}

type Timer = ReturnType<typeof setTimeout>;

/** A file may wait at its top, but not for ever: a program with nothing else to do would just end. */
const LOAD_MS_MAX = 30_000;

// For filters/stack.ts.
export { findCall } from "./places.ts";

let isProvided = false;

/** Imports from "ublk-bun" find our own module; once in each thread. */
function provideModule(): void {
  if (isProvided) return;
  isProvided = true;
  plugin({
    name: "ublk-bun",
    setup: (build) => {
      build.module("ublk-bun", () => ({ exports: { ...api }, loader: "object" }));
    },
  });
}

/** What the file, an absolute path, defines. Throws UblkError, whose message begins with a place. */
export async function loadDefinition(file: string, limitMs = LOAD_MS_MAX): Promise<Definition> {
  assertLoadable(file);
  provideModule();
  let module: { readonly default?: unknown };
  using guard = guardLoading(file, limitMs);
  void guard;
  let deadline: Timer | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    const error = new UblkError(`${file}: ${lateText(limitMs)}`, {
      exitCode: EXIT.timedOut,
      hint: LOAD_HINT,
    });
    deadline = setTimeout(() => reject(error), limitMs);
  });
  try {
    module = (await Promise.race([import(file), late])) as { readonly default?: unknown };
  } catch (error) {
    throw error instanceof UblkError ? error : loadError(file, error);
  } finally {
    clearTimeout(deadline);
  }
  let problem: string | undefined;
  try {
    problem = problemOf(module.default);
  } catch (error) {
    // A getter of the file's own.
    throw loadError(file, error);
  }
  if (problem !== undefined) throw definitionError(file, problem);
  return module.default as Definition;
}

function assertLoadable(file: string): void {
  if (!existsSync(file)) {
    throw new UblkError(`${file}: there is no such file`, {
      hint: "name a target's file, such as ./disk.ts; ublk-bun init makes one to start from",
    });
  }
  if (!statSync(file).isFile()) throw new UblkError(`${file} is not a file`);
  if (!file.includes("?")) return;
  throw new UblkError(`${file}: code in a path with a question mark cannot be loaded`, {
    hint: "give the file, or its folder, another name",
  });
}

/** A definition of a target, of functions or with a ring. */
export type TargetDefinition =
  | { readonly kind: "target"; readonly options: TargetOptions<{}> }
  | { readonly kind: "ring"; readonly options: RingTargetOptions<{}> };

/** The same where the file must be a target's. Throws UsageError where it is a filter's. */
export async function loadTarget(file: string): Promise<TargetDefinition> {
  const definition = await loadDefinition(file);
  if (definition.kind !== "filter") return definition as TargetDefinition;
  throw new UsageError(
    `${file} is a filter, not a target`,
    `it lies over one, such as: --target null --filter ${file}`,
  );
}

/** The same where the file must be a filter's. Throws UsageError where it is a target's. */
export async function loadFilter(file: string): Promise<FilterOptions<{}>> {
  const definition = await loadDefinition(file);
  if (definition.kind === "filter") return definition.options as FilterOptions<{}>;
  throw new UsageError(
    `${file} is a target, not a filter`,
    "a filter's default export is defineFilter({ … }); a target is given by --target",
  );
}

/** Throws (exit 6) when the code of `what`, a target or a filter, is not what `sources` says. */
export function assertSources(what: string, file: string, sources: readonly string[]): void {
  const changed = differences(sources, sourcesOf(file));
  if (changed.length === 0) return;
  throw new UblkError(`The ${what}'s code has changed: ${changed.join(", ")}`, {
    exitCode: EXIT.notRecoverable,
    hint: "nothing was changed; to serve the disk with the new code: --accept-changes",
  });
}

/** An error in what the file's default export says. */
export function definitionError(file: string, problem: string): UblkError {
  return new UblkError(
    `${file}:${lineOf(file, /^\s*export\s+default\b|\bas default\b/)}: ${problem}`,
    {
      hint: "see: ublk-bun help add",
    },
  );
}

function problemOf(value: unknown): string | undefined {
  if (value === undefined)
    return "the file has no default export: export default defineTarget({ … }), or defineFilter({ … })";
  if (!isDefinition(value)) {
    const what = value === null ? "null" : `of type ${typeof value}`;
    return `the default export is not a target, it is ${what}: export default defineTarget({ … })`;
  }
  const { kind, options } = value;
  const name = { ring: "defineRingTarget", target: "defineTarget", filter: "defineFilter" }[kind];
  if (typeof options !== "object" || options === null) return `${name} takes an object`;
  if (typeof options.open !== "function") return `${name}: open is not a function`;
  if (kind === "ring" && "serve" in options) {
    if (typeof options.serve !== "function") return `${name}: serve is not a function`;
    if (!["none", "transfer", "address"].includes(options.data)) {
      return `${name}: data is not "none", "transfer" or "address"`;
    }
  } else if (kind === "ring") return `${name}: serve is not a function`;
  if ("fence" in options && options.fence !== undefined && typeof options.fence !== "function") {
    return `${name}: fence is not a function`;
  }
  for (const key of ["repeatable", "perQueue"] as const) {
    const isOn: unknown = (options as TargetOptions<{}>)[key];
    if (isOn === undefined || typeof isOn === "boolean") continue;
    return `${name}: ${key} is not true or false`;
  }
  const problem = declarationProblem(options.params);
  return problem === undefined ? undefined : `${name}: ${problem}`;
}

function loadError(file: string, error: unknown): UblkError {
  const listed: unknown = (error as BunMessage | null | undefined)?.errors;
  const all = Array.isArray(listed) && typeof listed[0]?.message === "string" ? listed : [];
  const first = (all[0] ?? error ?? {}) as BunMessage;
  const more = all.length > 1 ? ` (and ${all.length - 1} more)` : "";
  const message = all[0] ? `${all[0].message}${more}` : messageOf(error);
  const place =
    placeOf(error) ?? buildPlace(first) ?? importPlace(first) ?? exportPlace(file, first) ?? file;
  return new UblkError(`${place}: ${message.replace(/ imported from \/\S+$/, "")}`, {
    cause: error,
  });
}

const buildPlace = ({ position }: BunMessage) =>
  position ? `${position.file}:${position.line}:${position.column}` : undefined;

/** An import that leads nowhere: where it is written. */
function importPlace({ specifier, referrer }: BunMessage): string | undefined {
  if (specifier === undefined || !referrer?.startsWith("/") || referrer.startsWith("/$bunfs/")) {
    return undefined;
  }
  return `${referrer}:${lineOf(referrer, specifier)}`;
}

/** An import of a name that its module does not export: where it is written. */
function exportPlace(file: string, { message }: BunMessage): string | undefined {
  const name = /^Export named '(\w+)' not found/.exec(message ?? "")?.[1];
  if (name === undefined) return undefined;
  const pattern = new RegExp(`import[^;]*\\b${name}\\b`);
  const path = pathsOf(sourcesOf(file)).find((each) => pattern.test(textOf(each)));
  return path === undefined ? undefined : `${path}:${lineOf(path, new RegExp(`\\b${name}\\b`))}`;
}
