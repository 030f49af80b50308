// recover: a new server for a disk whose server has died.

import type { CommandDef, ParsedArgs } from "citty";

import { recoverDevice } from "../../device/recover.ts";
import { UsageError } from "../../errors.ts";
import type { Spec, Target } from "../../target.ts";
import { parseInteger } from "../../units.ts";
import { commonArgs, idArgs, jsonArg, launchArgs, optionalId, requiredId } from "../args.ts";
import { defineCommand } from "../define.ts";
import { commonOf, openSession, type Session } from "../session.ts";

const recoverArgs = {
  ...idArgs,
  all: { type: "boolean", alias: "a", description: "every disk of ublk-bun without a server" },
  target: {
    type: "string",
    alias: ["t", "type"] as string[],
    description: "serve it as this, whatever its record says, with the target's own options",
    valueHint: "TARGET",
  },
  filter: {
    type: "string",
    description: "with --target: its filters, as for add; or none",
    valueHint: "FILTER",
    repeats: true,
  },
  force: {
    type: "boolean",
    description: "with --target: also another tool's disk, or over a file another device uses",
  },
  "accept-changes": {
    type: "boolean",
    description: "also when the code of a target of your own is not what it was",
  },
  "die-during-fetch": {
    type: "string",
    description: "fault_inject only; 1: this server kills itself while it fetches",
    valueHint: "0|1",
  },
  ...launchArgs,
  ...jsonArg,
  ...commonArgs,
} as const;

type RecoverArgs = ParsedArgs<typeof recoverArgs>;

/** The command for these words: with --target, the target's options are its too. */
export async function recoverCommand(words: readonly string[]): Promise<CommandDef> {
  const mayRetarget = words.some((word) => /^(--target|--type|-t)/.test(word));
  const { targetByOption, optionsFor } = mayRetarget
    ? await import("../retarget-words.ts")
    : { targetByOption: () => undefined, optionsFor: () => ({}) };
  const target = targetByOption(words);
  return defineCommand({
    meta: { name: "recover", description: "Serve a disk again whose server has died." },
    args: { ...recoverArgs, ...optionsFor(target) },
    run: ({ args }) => recover(target, args as unknown as RecoverArgs),
  }) as unknown as CommandDef;
}

async function recover(target: Target | undefined, args: RecoverArgs): Promise<void> {
  if (args.all) return await all(args);
  const id = requiredId(args);
  if (target === undefined && args.filter !== undefined) {
    throw new UsageError("--filter needs --target", "without it the record says what the disk is");
  }
  const retarget =
    target && (await (await import("../retarget-words.ts")).retargetOf(target, id, args));
  // With --target it is an option of the target, like all others.
  const once = target ? {} : readOnce(args["die-during-fetch"]);
  const [foreground, force] = [args.foreground === true, args.force === true];
  const wish = { retarget, acceptChanges: args["accept-changes"] === true };
  const common = commonOf(args);
  let opened: Session | undefined;
  // A disk that needed a library of its own here needs it for this command, too.
  const library = () => common.store.loadIfUsable(id)?.liburing;
  const session = async () => (opened ??= await openSession(args, library()));
  const openControl = async () => (await session()).control;
  const how = { foreground, force, wish, once, openControl };
  try {
    const launched = await recoverDevice(id, { ...common, ...how });
    const { finishLaunch } = await import("../launched.ts");
    await finishLaunch(launched, await session(), args);
  } finally {
    opened?.[Symbol.dispose]();
  }
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

async function all(args: RecoverArgs): Promise<void> {
  if (optionalId(args) !== undefined) {
    throw new UsageError("--all and a device's number are given", "give one of them");
  }
  const strange = FOR_ONE.find((name) => args[name]);
  if (strange !== undefined) {
    throw new UsageError(`--all and --${strange} are given`, `--${strange} is for one disk`);
  }
  const { recoverAndPrint } = await import("../recovered.ts");
  using session = await openSession(args);
  process.exitCode = await recoverAndPrint(session, args);
}

function readOnce(word: string | undefined): Spec {
  if (word === undefined) return {};
  return { dieDuringFetch: parseInteger(word, "--die-during-fetch", { min: 0, max: 1 }) === 1 };
}
