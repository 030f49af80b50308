// recover: a new server for a disk whose server has died.

import { type CommandDef, defineCommand, type ParsedArgs } from "citty";

import { recoverDevice } from "../../device/begin.ts";
import { diskPath, diskShape } from "../../device/disk.ts";
import { recoverAll, type Recovery } from "../../device/recover-all.ts";
import { UsageError } from "../../errors.ts";
import { parseFilters } from "../../filters/index.ts";
import { log } from "../../log.ts";
import { type Spec, type Target, valuesOf } from "../../target.ts";
import { parseInteger } from "../../units.ts";
import { commonArgs, idArgs, jsonArg, optionalId, requiredId } from "../args.ts";
import { finishLaunch, launchArgs } from "../launched.ts";
import { print, printJson } from "../output.ts";
import { openSession } from "../session.ts";
import { filterArg, targetArg, targetByOption } from "../target-words.ts";

const faultArgs = {
  "die-during-fetch": {
    type: "string",
    description: "fault_inject only; 1: this server kills itself while it fetches",
    valueHint: "0|1",
  },
} as const;

const recoverArgs = {
  ...idArgs,
  all: { type: "boolean", alias: "a", description: "every disk of ublk-bun without a server" },
  target: {
    ...targetArg.target,
    description: "serve it as this, whatever its record says, with the target's own options",
  },
  filter: { ...filterArg.filter, description: "with --target: its filters, as for add; or none" },
  force: {
    type: "boolean",
    description: "with --target: also another tool's disk, or over a file another device uses",
  },
  "accept-changes": {
    type: "boolean",
    description: "also when the code of a target of your own is not what it was",
  },
  ...faultArgs,
  ...launchArgs,
  ...jsonArg,
  ...commonArgs,
} as const;

/** The command for these words: with --target, the target's options are its too. */
export function recoverCommand(words: readonly string[]): CommandDef {
  const target = targetByOption(words);
  return defineCommand({
    meta: { name: "recover", description: "Serve a disk again whose server has died." },
    args: { ...recoverArgs, ...optionsOf(target) },
    run: ({ args }) => recover(target, args as unknown as ParsedArgs<typeof recoverArgs>),
  }) as unknown as CommandDef;
}

/** The target's options; the size of a disk that is there need not be said. */
function optionsOf(target: Target | undefined): Target["args"] {
  const { size, ...rest } = target?.args ?? {};
  if (size?.type !== "string") return target?.args ?? {};
  const { default: _default, required: _required, ...unsaid } = size;
  return { size: unsaid, ...rest };
}

async function recover(
  target: Target | undefined,
  args: ParsedArgs<typeof recoverArgs>,
): Promise<void> {
  if (args.all) return await all(args);
  const id = requiredId(args);
  await target?.load?.();
  const filters = await filtersFor(target, args.filter);
  const retarget = target && { target: target.name, spec: parseFor(target, id, args), filters };
  // With --target it is an option of the target, like all others.
  const once = target ? {} : readOnce(args["die-during-fetch"]);
  using session = await openSession(args);
  const [foreground, force] = [args.foreground === true, args.force === true];
  const acceptChanges = args["accept-changes"] === true;
  const how = { foreground, force, retarget, once, acceptChanges };
  const launched = await recoverDevice(id, { ...session, ...how });
  await finishLaunch(launched, session, args);
}

/** undefined: nothing was said. */
async function filtersFor(target: Target | undefined, word: string | undefined) {
  if (word === undefined) return undefined;
  if (target === undefined) {
    throw new UsageError("--filter needs --target", "without it the record says what the disk is");
  }
  return await parseFilters(word === "none" ? [] : valuesOf(word));
}

/** What is said of one disk makes no sense for all. */
const FOR_ONE = [
  "target",
  "filter",
  "force",
  "accept-changes",
  "die-during-fetch",
  "foreground",
] as const;

async function all(args: ParsedArgs<typeof recoverArgs>): Promise<void> {
  if (optionalId(args) !== undefined) {
    throw new UsageError("--all and a device's number are given", "give one of them");
  }
  const strange = FOR_ONE.find((name) => args[name]);
  if (strange !== undefined) {
    throw new UsageError(`--all and --${strange} are given`, `--${strange} is for one disk`);
  }
  using session = await openSession(args);
  const outcomes: Recovery[] = [];
  process.exitCode = await recoverAll(session, (outcome) => {
    outcomes.push(outcome);
    const { id, recovered, serverPid, error } = outcome;
    if (!recovered) log.error(`device ${id}: ${error}`);
    else if (!args.json && !args.quiet) print(`${diskPath(id)} is live, pid ${serverPid}`);
  });
  if (args.json) printJson(outcomes.toSorted((one, other) => one.id - other.id));
}

function readOnce(word: string | undefined): Spec {
  if (word === undefined) return {};
  return { dieDuringFetch: parseInteger(word, "--die-during-fetch", { min: 0, max: 1 }) === 1 };
}

/** A target without files has no other place to take its size from than the disk. */
function parseFor(target: Target, id: number, args: object): Spec {
  const { size: option } = target.args;
  const fallback = option?.type === "string" ? option.default : undefined;
  const shape = target.files === undefined ? diskShape(id) : undefined;
  const size = shape === undefined ? fallback : String(shape.sizeBytes);
  return target.parse({ size, ...defined(args) } as never);
}

const defined = (args: object) =>
  Object.fromEntries(Object.entries(args).filter(([, value]) => value !== undefined));
