// The options of watch, which a unit for it takes as well.

import type { ArgsDef, ParsedArgs } from "citty";

import { GIVE_UPS, type GiveUp } from "../device/keeper.ts";
import type { RestartPolicy } from "../device/restart-limit.ts";
import { UsageError } from "../errors.ts";
import { parseInteger, parseMilliseconds } from "../units.ts";

const RESTARTS_MAX = 1_000_000;

export const watchArgs = {
  "max-restarts": {
    type: "string",
    description: "give a disk up after so many restarts within --window",
    valueHint: "N",
    default: "20",
  },
  window: { type: "string", description: "see --max-restarts", valueHint: "TIME", default: "2m" },
  backoff: {
    type: "string",
    description: "pause before the second restart in a row; doubles from one to the next",
    valueHint: "TIME",
    default: "100ms",
  },
  "max-backoff": {
    type: "string",
    description: "the longest such pause",
    valueHint: "TIME",
    default: "5s",
  },
  "on-giveup": {
    type: "string",
    description: `then: keep (I/O waits for recover), stop or fail (I/O fails)`,
    valueHint: GIVE_UPS.join("|"),
    default: "keep",
  },
  standby: {
    type: "boolean",
    description: "keep a second server ready for every disk: shorter pauses, more memory",
  },
} as const satisfies ArgsDef;

type WatchValues = ParsedArgs<typeof watchArgs>;

export interface WatchWish {
  readonly policy: RestartPolicy;
  readonly onGiveUp: GiveUp;
  readonly standby: boolean;
}

/** Throws UsageError. */
export function readWatchArgs(args: WatchValues): WatchWish {
  const onGiveUp = GIVE_UPS.find((known) => known === args["on-giveup"]);
  if (onGiveUp === undefined) {
    const hint = `there are: ${GIVE_UPS.join(", ")}`;
    throw new UsageError(`Unknown --on-giveup "${args["on-giveup"]}"`, hint);
  }
  const limits = { min: 0, max: RESTARTS_MAX };
  const policy = {
    maxRestarts: parseInteger(args["max-restarts"], "--max-restarts", limits),
    windowMs: parseMilliseconds(args.window, "--window"),
    backoffMs: parseMilliseconds(args.backoff, "--backoff"),
    backoffMsMax: parseMilliseconds(args["max-backoff"], "--max-backoff"),
  };
  if (policy.windowMs === 0) {
    throw new UsageError("--window 0 would count no restart", "such as --window 2m");
  }
  return { policy, onGiveUp, standby: args.standby === true };
}
