// Every target there is: one line each. A target whose name is a path is that file. Each is loaded when it is
// needed: a server of one kind of disk has no use for the others' code, and its start no time.

import { resolve } from "../builtin.ts";
import { UsageError } from "../errors.ts";
import { isFilePath } from "../script/file-path.ts";
import type { Target } from "../target.ts";

export const targets: Record<string, () => Target> = {
  null: () => (require("./null.ts") as typeof import("./null.ts")).nullTarget,
  loop: () => (require("./loop.ts") as typeof import("./loop.ts")).loop,
  mem: () => (require("./mem.ts") as typeof import("./mem.ts")).mem,
  stripe: () => (require("./stripe.ts") as typeof import("./stripe.ts")).stripe,
  fault_inject: () =>
    (require("./fault-inject.ts") as typeof import("./fault-inject.ts")).faultInject,
};

/** Finds a target by name, or by the path of its file. Throws UsageError, which lists the names. */
export function findTarget(name: string): Target {
  if (isFilePath(name)) {
    const { scriptTarget } = require("../script/target.ts") as typeof import("../script/target.ts");
    return scriptTarget(resolve(name));
  }
  if (Object.hasOwn(targets, name)) return targets[name]!();
  throw new UsageError(
    `Unknown target "${name}"`,
    `a file of your own (./disk.ts), or one of: ${Object.keys(targets).join(", ")}`,
  );
}
