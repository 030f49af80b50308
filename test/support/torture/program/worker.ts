// Entry of a queue's thread in the odd program: the real one, which finds the odd targets too.

// oxlint-disable-next-line no-unassigned-import
import "../../../../src/worker.ts";
import type { Target } from "../../../../src/target.ts";
import { targets } from "../../../../src/targets/index.ts";
import { dieInFetchWhenAsked } from "./death.ts";
import { fenced } from "./fenced.ts";
import { liars } from "./liars.ts";
import { doublePlaces, rotating } from "./rotating.ts";

// In time: the Worker looks a target up when it is told to prepare.
for (const odd of [...liars, rotating, fenced]) targets[odd.name] = () => odd as Target;
doublePlaces();
dieInFetchWhenAsked();
