// Runs the checks on one target, and tells of each what came of it.

import { formatBytes } from "../units.ts";
import { Bench } from "./bench.ts";
import { type Check, checks } from "./checks.ts";
import { seeded } from "./content.ts";
import type { DiskOptions } from "./disk.ts";
import { Failure } from "./instance.ts";

export interface Result {
  readonly name: string;
  readonly outcome: "passed" | "failed" | "left out";
  /** Why it failed or was left out; of the first, what disk it is; of others, what is worth knowing. */
  readonly detail?: string;
}

const OPENS = "opens";
const READS = "what is on the disk is read";
const OPENS_AGAIN = "opens again after that";
const RESTORES = "what was on the disk is put back";

/** The checks in turn; `tell` hears of each as it ends. The same seed makes the same requests. */
export async function runChecks(
  options: DiskOptions,
  tell: (result: Result) => void,
  which: readonly Check[] = checks,
): Promise<void> {
  const random = seeded(options.seed);
  let bench: Bench;
  try {
    bench = await Bench.open(options, random);
  } catch (error) {
    return tell(failed(OPENS, error));
  }
  let step = READS;
  try {
    tell({ name: OPENS, outcome: "passed", detail: describe(bench) });
    await bench.begin();
    step = RESTORES;
    for (const check of which) {
      const why = whyLeftOut(check, bench, options);
      if (why !== undefined) {
        tell({ name: check.name, outcome: "left out", detail: why });
        continue;
      }
      const result = await runCheck(check, bench, options.seed);
      tell(result);
      if (result.outcome !== "failed") continue;
      step = OPENS_AGAIN;
      await bench.startOver();
      step = RESTORES;
    }
    const { readOnly } = bench.disk.geometry;
    await bench.finish();
    if (!readOnly) tell({ name: RESTORES, outcome: "passed" });
  } catch (error) {
    tell(failed(step, error));
  } finally {
    await bench.disk[Symbol.asyncDispose]();
  }
}

/** What keeps a check from being of use; undefined: nothing. */
function whyLeftOut(
  { needs, repeats }: Check,
  { disk }: Bench,
  { isRepeatable }: DiskOptions,
): string | undefined {
  if (needs !== undefined && !needs.has(disk.geometry)) return `it has no ${needs.what}`;
  return repeats && !isRepeatable ? "it says that it does harm to run a request twice" : undefined;
}

async function runCheck(check: Check, bench: Bench, seed: number): Promise<Result> {
  // Of its own, so that what one check uses does not change the next.
  bench.random = seeded(seed ^ Number(Bun.hash.crc32(check.name)));
  try {
    const note = await check.run(bench);
    return {
      name: check.name,
      outcome: "passed",
      ...(typeof note === "string" && { detail: note }),
    };
  } catch (error) {
    return failed(check.name, error);
  }
}

/** What is not the target's doing goes on: it is a mistake of the check. */
function failed(name: string, error: unknown): Result {
  const first = error instanceof AggregateError ? error.errors[0] : error;
  if (!(first instanceof Failure)) throw error;
  return { name, outcome: "failed", detail: first.message };
}

function describe({ disk }: Bench): string {
  const { geometry } = disk;
  const has = [
    geometry.readOnly ? "read-only" : "write",
    ...(geometry.volatileCache ? ["flush"] : []),
    ...(geometry.fua ? ["fua"] : []),
    ...(geometry.discard ? ["discard"] : []),
    ...(geometry.writeZeroes ? ["writeZeroes"] : []),
  ];
  const blocks = `blocks of ${geometry.logicalBlockBytes} bytes`;
  return `${formatBytes(geometry.sizeBytes)}, ${blocks}: ${has.join(", ")}`;
}
