// help: what there is, or what one command or target takes.

import type { Param } from "ublk-bun";

import { resolve } from "../../builtin.ts";
import { UsageError } from "../../errors.ts";
import { filters, findFilter } from "../../filters/index.ts";
import { isFilePath } from "../../script/file-path.ts";
import { loadDefinition } from "../../script/load.ts";
import { findTarget, targets } from "../../targets/index.ts";
import { defineCommand } from "../define.ts";
import { print } from "../output.ts";
import { closest } from "../strict.ts";
import { optionLines } from "../usage.ts";
import { subcommands } from "./index.ts";

/** Stands for any file of one's own. */
const SOME_FILE = "./disk.ts";
const SOME_FILTER = "./log.ts";

/** The longest command, and two blanks. */
const NAME_COLUMNS = 2 + Math.max(...subcommands.map(({ name }) => name.length));

export default defineCommand({
  meta: { name: "help", description: "Explain a command." },
  args: { command: { type: "positional", required: false, description: "which one" } },
  run: async ({ args }) => print(await helpText(args.command)),
});

/** The overview, or the options of one subcommand. */
export async function helpText(name?: string): Promise<string> {
  if (name === undefined) return overview();
  if (isFilePath(name)) return fileText(name);
  const subcommand = subcommands.find((candidate) => candidate.name === name);
  if (!subcommand) {
    const near = closest(
      name,
      subcommands.map((known) => known.name),
    );
    throw new UsageError(`Unknown command "${name}"`, near ? `did you mean ${near}?` : "see: help");
  }
  const command = await subcommand.load([]);
  const args = (await (typeof command.args === "function" ? command.args() : command.args)) ?? {};
  const positionals = Object.entries(args).filter(([, def]) => def.type === "positional");
  const places = positionals.map(([place]) => ` [${place.toUpperCase()}]`).join("");
  return [
    `ublk-bun ${name}: ${subcommand.summary}`,
    "",
    `Usage: ublk-bun ${name}${places} [OPTION…]`,
    "",
    ...optionLines(args),
    ...(name === "add" ? ["", ...targetLines()] : []),
  ].join("\n");
}

/** What a file of one's own is, and how its parameters are given. */
const KINDS = {
  target: { summary: "a target", option: "--target", params: " [--param KEY=VALUE …]" },
  ring: { summary: "a ring target", option: "--target", params: " [--param KEY=VALUE …]" },
  filter: { summary: "a filter", option: "--target TARGET --filter", params: "[,KEY=VALUE…]" },
} as const;

/** A target's file, or a filter's: what it is, and its parameters. */
async function fileText(name: string): Promise<string> {
  const { options, kind } = await loadDefinition(resolve(name));
  const params = Object.entries(options.params ?? {});
  const { summary, option, params: syntax } = KINDS[kind];
  const words = `${option} ${name}${params.length > 0 ? syntax : ""}`;
  const width = 2 + Math.max(0, ...params.map(([key, { type }]) => key.length + type.length + 1));
  return [
    `${name}: ${options.summary ?? summary}`,
    "",
    `Usage: ublk-bun add ${words}`,
    `       ublk-bun check ${words.replace("--target ", "")}`,
    "",
    ...(params.length === 0 ? ["  it has no parameters"] : []),
    ...params.map(([key, param]) => `  ${`${key}=${param.type}`.padEnd(width)}${about(param)}`),
  ].join("\n");
}

function about({ help, required, default: fallback, oneOf }: Param): string {
  const notes = [
    ...(required === true ? ["required"] : []),
    ...(oneOf === undefined ? [] : [`one of: ${oneOf.join(", ")}`]),
    ...(fallback === undefined ? [] : [`default: ${fallback}`]),
  ];
  return [help, notes.length > 0 ? `(${notes.join("; ")})` : undefined]
    .filter((part) => part !== undefined)
    .join(" ");
}

function overview(): string {
  const lines = subcommands.map(({ name, summary }) => `  ${name.padEnd(NAME_COLUMNS)}${summary}`);
  return [
    "ublk-bun: Linux userspace block devices that survive their server",
    "",
    "Usage: ublk-bun COMMAND [OPTION…]",
    "",
    ...lines,
    "",
    "  ublk-bun help COMMAND   its options          ublk-bun --version",
    "",
    "Try: ublk-bun add --target null; then kill its server, and: ublk-bun recover 0",
    "Exit codes: 0 ok, 1 failed, 2 usage, 3 no such device, 4 not supported here, 5 busy,",
    "            6 nothing to recover or not recoverable, 124 timed out",
  ].join("\n");
}

/** Each target with the options that it adds. */
function targetLines(): string[] {
  const ofOnesOwn = { ...findTarget(SOME_FILE), name: SOME_FILE };
  return [
    ...[...Object.values(targets).map((load) => load()), ofOnesOwn].flatMap(
      ({ name, summary, args }) => [`Target ${name}: ${summary}`, ...optionLines(args)],
    ),
    ...Object.values(filters)
      .map((load) => load())
      .map(({ usage, summary }) => `Filter ${usage}: ${summary}`),
    `Filter ${SOME_FILTER}: ${findFilter(SOME_FILTER).summary}`,
  ];
}
