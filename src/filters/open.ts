// A target and its filters opened in the thread that serves them: a disk of functions.

import { messageOf, UblkError } from "../errors.ts";
import type { FilterContext, FilterSpec } from "../filter.ts";
import { diskProblem } from "../script/disk.ts";
import { isFilePath } from "../script/file-path.ts";
import { definitionError } from "../script/load.ts";
import { type Backing, dataOf, type Spec } from "../target.ts";
import { findTarget } from "../targets/index.ts";
import { below } from "./below.ts";
import { findFilter } from "./index.ts";
import { lift } from "./lift.ts";
import { filterProblem, type Layer, over } from "./over.ts";

/** An opened target whose requests are served by a ring. */
export interface RingBase extends Pick<Backing, "geometry" | "fds" | "facts"> {
  readonly target: string;
  readonly spec: Spec;
  readonly liburing: string;
  /** After its ring is closed. */
  close(): Promise<void> | void;
  note(text: string): void;
}

/** A ring target of ours, or of somebody's file, as a disk of functions. */
export async function liftTarget(base: RingBase): Promise<Layer> {
  const { spec, facts, fds, geometry } = base;
  const target = findTarget(base.target);
  await target.load?.();
  const disk = lift({
    ...base,
    data: dataOf(target, spec),
    fanOut: target.fanOut?.(spec, geometry) ?? 1,
    serve: (queue) => target.serve(spec, { facts, fds, queue }),
  });
  return { disk, geometry };
}

/** The filters over a disk, the first next to it. Throws UblkError; what is open is closed then. */
export async function openFilters(
  filters: readonly FilterSpec[],
  bottom: Layer,
  context: FilterContext,
): Promise<Layer> {
  let top = bottom;
  try {
    for (const each of filters) top = await openFilter(each, top, context);
    return top;
  } catch (error) {
    // The error is what counts.
    await Promise.resolve(top.disk.close?.()).catch(() => {});
    throw error;
  }
}

async function openFilter(
  { name, spec }: FilterSpec,
  lower: Layer,
  context: FilterContext,
): Promise<Layer> {
  const lowerDisk = below(lower.disk, lower.geometry);
  const own = await opened(name, () => findFilter(name).open(lowerDisk, spec, context));
  const problem = filterProblem(own);
  if (problem !== undefined) throw wrong(name, problem);
  const layer = over(own, lower, lowerDisk);
  const shape = diskProblem(layer.disk);
  if (shape !== undefined) throw wrong(name, shape);
  return layer;
}

async function opened<T>(name: string, open: () => Promise<T> | T): Promise<T> {
  try {
    return await open();
  } catch (cause) {
    if (cause instanceof UblkError) throw cause;
    throw new UblkError(`--filter ${name}: ${messageOf(cause)}`, { cause });
  }
}

const wrong = (name: string, problem: string) =>
  isFilePath(name) ? definitionError(name, problem) : new UblkError(`--filter ${name}: ${problem}`);
