// check: whether a target does what a disk must, crashes included; needs neither root nor driver.

import type { CommandDef, ParsedArgs } from "citty";

import { resolve } from "../../builtin.ts";
import type { DiskOptions } from "../../check/disk.ts";
import { type Result, runChecks } from "../../check/run.ts";
import { CLEAN_ENV, selfCommand } from "../../device/self.ts";
import { EXIT, UsageError } from "../../errors.ts";
import { parseFilters } from "../../filters/index.ts";
import { assertApart, targetOf } from "../../filters/stack.ts";
import { isFilePath } from "../../script/file-path.ts";
import { loadTarget } from "../../script/load.ts";
import { checkWords } from "../../script/params.ts";
import { checkName } from "../../script/target.ts";
import { type Spec, type Target, valuesOf } from "../../target.ts";
import { findTarget } from "../../targets/index.ts";
import { parseInteger, parseMilliseconds } from "../../units.ts";
import { jsonArg } from "../args.ts";
import { defineCommand } from "../define.ts";
import { print, printJson } from "../output.ts";
import { filterArg, targetNamed, targetNames } from "../target-words.ts";

const SEED_MAX = 2 ** 31 - 1;

const checkArgs = {
  target: {
    type: "positional",
    required: false,
    description: "a target's file, such as ./disk.ts, or the name of one of our own",
  },
  param: {
    type: "string",
    description: "a parameter of the file; may be repeated",
    valueHint: "KEY=VALUE",
    repeats: true,
  },
  env: {
    type: "string",
    description: "an environment variable that the file may see; may be repeated",
    valueHint: "NAME",
    repeats: true,
  },
  ...filterArg,
  seed: { type: "string", description: "the seed of an earlier run, to see it again" },
  "io-timeout": {
    type: "string",
    description: "a request that is not answered for so long never will be",
    valueHint: "TIME",
    default: "10s",
  },
  ...jsonArg,
} as const;

type CheckArgs = ParsedArgs<typeof checkArgs>;

/** An option of ours whose value is the next word. */
function takesNext(word: string | undefined): boolean {
  const name = /^--([^=]+)$/.exec(word ?? "")?.[1]?.replaceAll("_", "-");
  return Object.entries(checkArgs).some(([own, { type }]) => own === name && type === "string");
}

/** The command for these words: with one of our own targets its options are the command's. */
export function checkCommand(words: readonly string[]): CommandDef {
  const plain = words.filter((word, i) => !word.startsWith("-") && !takesNext(words[i - 1]));
  // Before one of our own the values of its options may stand.
  const named = plain.find((word) => targetNames.includes(word)) ?? plain[0];
  const target = named === undefined || isFilePath(named) ? undefined : targetNamed(named);
  return defineCommand({
    meta: { name: "check", description: "Check that a target does what a disk must." },
    args: { ...target?.args, ...checkArgs },
    run: ({ args }) => check(args as unknown as CheckArgs, target),
  }) as unknown as CommandDef;
}

async function check(args: CheckArgs, target: Target | undefined): Promise<void> {
  if (args.target === undefined) {
    throw new UsageError("Which target?", "such as: ublk-bun check ./disk.ts");
  }
  const seed =
    args.seed === undefined
      ? Math.floor(Math.random() * SEED_MAX)
      : parseInteger(args.seed, "--seed", { min: 0, max: SEED_MAX });
  const ioTimeoutMs = parseMilliseconds(args["io-timeout"], "--io-timeout");
  if (ioTimeoutMs === 0) throw new UsageError("--io-timeout leaves no time at all");
  const env = { ...CLEAN_ENV, ...readEnv(args.env) };
  const checked = await readSubject(args, target, seed);
  const { subject } = checked;
  const command = selfCommand(["__check-host"]);
  const results: Result[] = [];
  const tell = (result: Result) => {
    results.push(result);
    if (!args.json) print(formatResult(result));
  };
  if (!args.json) print(`${args.target}, seed ${seed}`);
  try {
    await runChecks({ ...checked, command, env, seed, ioTimeoutMs }, tell);
  } finally {
    // What outlives a server outlives this one's, too.
    if ("target" in subject) await target?.remove?.(subject.spec, subject);
  }
  const failures = results.filter(({ outcome }) => outcome === "failed").length;
  if (args.json) printJson({ target: args.target, seed, results });
  else print(summary(results, failures, seed));
  if (failures > 0) process.exitCode = EXIT.failed;
}

type Checked = Pick<DiskOptions, "subject" | "instances" | "isRepeatable">;

async function readSubject(
  args: CheckArgs,
  target: Target | undefined,
  seed: number,
): Promise<Checked> {
  const filters = await parseFilters(valuesOf(args.filter));
  // Served by one thread then.
  const isStacked = filters.length > 0;
  const isRepeatable = (name: string, spec: Spec) =>
    targetOf({ target: name, spec, filters }).repeatable?.(spec) !== false;
  const identity = Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString("hex");
  if (target !== undefined) {
    if (args.param !== undefined) {
      throw new UsageError("--param is for a target's file", `see: ublk-bun help add`);
    }
    if (args.env !== undefined) {
      const hint =
        "a filter's file over one of our own targets is given no variables by `add` either";
      throw new UsageError("--env is for a target's file", hint);
    }
    const spec = target.parse({ ...args, seed: String(seed) } as never);
    const subject = { identity, filters, target: target.name, spec };
    assertApart(subject);
    const instances = isStacked ? 1 : 2;
    return { subject, instances, isRepeatable: isRepeatable(target.name, spec) };
  }
  const file = resolve(args.target!);
  const { kind, options } = await loadTarget(file);
  const words = checkWords(options.params ?? {}, valuesOf(args.param));
  const isOne = kind === "target" && !("perQueue" in options && options.perQueue === true);
  await findTarget(file).load?.();
  return {
    subject: { identity, filters, file, words },
    instances: isOne || isStacked ? 1 : 2,
    isRepeatable: isRepeatable(file, {}),
  };
}

function readEnv(word: string | undefined): Record<string, string> {
  const entries = valuesOf(word).map((name) => {
    checkName(name);
    const value = process.env[name];
    if (value !== undefined) return [name, value] as const;
    throw new UsageError(`--env ${name}: there is no such variable`, `such as: ${name}=… ublk-bun`);
  });
  return Object.fromEntries(entries);
}

const MARKS = { passed: "ok    ", failed: "FAILED", "left out": "-     " } as const;

function formatResult({ name, outcome, detail }: Result): string {
  const line = `  ${MARKS[outcome]}  ${name}`;
  if (detail === undefined) return line;
  if (outcome !== "failed") return `${line} (${detail})`;
  return [line, ...detail.split("\n").map((each) => `            ${each}`)].join("\n");
}

function summary(results: readonly Result[], failures: number, seed: number): string {
  const passed = results.filter(({ outcome }) => outcome === "passed").length;
  if (failures === 0) return `${passed} checks passed`;
  return `${passed} checks passed, ${failures} failed; to see it again: --seed ${seed}`;
}
