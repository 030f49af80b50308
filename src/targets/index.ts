// Every target there is: one line each.

import { UsageError } from "../errors.ts";
import type { Target } from "../target.ts";
import { faultInject } from "./fault-inject.ts";
import { loop } from "./loop.ts";
import { mem } from "./mem.ts";
import { nullTarget } from "./null.ts";
import { stripe } from "./stripe.ts";

export const targets: readonly Target[] = [nullTarget, loop, mem, stripe, faultInject];

/** Finds a target by name. Throws UsageError, which lists the names there are. */
export function findTarget(name: string): Target {
  const target = targets.find((candidate) => candidate.name === name);
  if (target) return target;
  throw new UsageError(
    `Unknown target "${name}"`,
    `targets: ${targets.map((known) => known.name).join(", ")}`,
  );
}
