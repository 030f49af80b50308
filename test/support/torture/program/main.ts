// The program as it is, with what the product must not have: odd targets, and a place to die at.
// Compiled beside the real one (../build.ts), so that its daemons and Workers are of its own kind.

import type { Target } from "../../../../src/target.ts";
import { targets } from "../../../../src/targets/index.ts";
import { dieWhenAsked } from "./death.ts";
import { fenced } from "./fenced.ts";
import { liars } from "./liars.ts";
import { rotating } from "./rotating.ts";

for (const odd of [...liars, rotating, fenced]) targets[odd.name] = () => odd as Target;
const words = process.argv.slice(2);
dieWhenAsked(words[0] ?? "");
const isHidden = words[0]?.startsWith("__");
const { runToExitCode } = await (isHidden
  ? import("../../../../src/cli/hidden.ts")
  : import("../../../../src/cli/run.ts"));
process.exit(await runToExitCode(words));
