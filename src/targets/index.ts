// Every target there is: one line each. A target whose name is a path is that file.

import { resolve } from "node:path";

import { UsageError } from "../errors.ts";
import { isFilePath } from "../script/file-path.ts";
import { scriptTarget } from "../script/target.ts";
import type { Target } from "../target.ts";
import { faultInject } from "./fault-inject.ts";
import { loop } from "./loop.ts";
import { mem } from "./mem.ts";
import { nullTarget } from "./null.ts";
import { stripe } from "./stripe.ts";

export const targets: readonly Target[] = [nullTarget, loop, mem, stripe, faultInject];

/** Finds a target by name, or by the path of its file. Throws UsageError, which lists the names. */
export function findTarget(name: string): Target {
  if (isFilePath(name)) return scriptTarget(resolve(name));
  const target = targets.find((candidate) => candidate.name === name);
  if (target) return target;
  throw new UsageError(
    `Unknown target "${name}"`,
    `a file of your own (./disk.ts), or one of: ${targets.map((known) => known.name).join(", ")}`,
  );
}
