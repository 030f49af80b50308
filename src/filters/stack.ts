// A device's target together with its filters, as the control path sees them: a target like any other.

import { UsageError } from "../errors.ts";
import type { FilterSpec } from "../filter.ts";
import { isFilePath } from "../script/file-path.ts";
import type { Spec, Target } from "../target.ts";
import { findTarget } from "../targets/index.ts";
import { overlap, type Place, placeOf } from "../targets/place.ts";
import { findFilter } from "./index.ts";

/** What a record says of a disk's making. */
export interface Made {
  readonly target: string;
  readonly spec: Spec;
  readonly filters?: readonly FilterSpec[];
}

/** How long a request of a ring target may take under filters of somebody's own; otherwise for ever. */
const IO_TIMEOUT_MS = 30_000;

/** A target as far as it concerns a disk that is made of it; its words are its own. */
export type DiskTarget = Omit<
  Target,
  "summary" | "args" | "load" | "parse" | "open" | "serve" | "renew"
>;

/**
 * The target of that name with those filters over it: served by one thread with an event loop. A disk
 * with filters cannot be resized, and what goes through its functions has no use for a ring's size.
 */
export function targetOf({ target, filters = [] }: Made): DiskTarget {
  const base = findTarget(target);
  if (filters.length === 0) return base;
  const each = (what: "files" | "changed") =>
    filters.flatMap(({ name, spec }) => findFilter(name)[what]?.(spec) ?? []);
  const codes = filters.map(({ name }) => name).filter(isFilePath);
  const isOwnCode = base.changed !== undefined || codes.length > 0;
  return {
    name: `${base.name} with filters`,
    // A filter works on the data itself.
    data: "address",
    hosting: () => "one",
    files: (spec) => [...(base.files?.(spec) ?? []), ...each("files")],
    ...(isOwnCode && {
      changed: (spec) => [...(base.changed?.(spec) ?? []), ...each("changed")],
    }),
    env: (spec) => base.env?.(spec) ?? [],
    describeCall: (op) =>
      base.describeCall?.(op) ??
      `a function of ${codes.join(" or ") || "a filter"} does not return`,
    repeatable: (spec) =>
      base.repeatable?.(spec) !== false &&
      filters.every(({ name, spec: own }) => findFilter(name).repeatable?.(own) !== false),
    fence: async (spec, context) => await base.fence?.(spec, context),
    hasFence: (spec) => base.fence !== undefined && base.hasFence?.(spec) !== false,
    remove: async (spec, context) => await base.remove?.(spec, context),
  };
}

/** The filters with the code as it is now. */
export function renewFilters(filters: readonly FilterSpec[]): Promise<FilterSpec[]> {
  return Promise.all(
    filters.map(async ({ name, spec }) => ({
      name,
      spec: (await findFilter(name).renew?.(spec)) ?? spec,
    })),
  );
}

/** Throws UsageError where two parts of one disk would use the same file. */
export function assertApart({ target, spec, filters = [] }: Made): void {
  const seen: Place[] = (findTarget(target).files?.(spec) ?? []).flatMap((f) => placeOf(f) ?? []);
  const paths = new Set(findTarget(target).files?.(spec));
  for (const { name, spec: own } of filters) {
    for (const path of findFilter(name).files?.(own) ?? []) {
      const place = placeOf(path);
      const isTaken = place !== undefined && seen.some((other) => overlap(other, place));
      if (isTaken || paths.has(path)) {
        throw new UsageError(`${path} is used twice by the same disk`, "each file has one use");
      }
      paths.add(path);
      if (place !== undefined) seen.push(place);
    }
  }
}

/** After how long a request fails; 0: never. A ring target's own requests may take for ever. */
export function ioTimeoutMs({ spec, filters = [] }: Made): number {
  if (typeof spec["ioTimeoutMs"] === "number") return spec["ioTimeoutMs"];
  return filters.some(({ name }) => isFilePath(name)) ? IO_TIMEOUT_MS : 0;
}

/** Where a function of that name is written: in the uppermost file that has one. */
export function placeOfCall({ target, filters = [] }: Made, call: string): string {
  const { findCall } = require("../script/load.ts") as typeof import("../script/load.ts");
  const files = [target, ...filters.map(({ name }) => name)].filter(isFilePath).toReversed();
  for (const file of files) {
    const place = findCall(file, call);
    if (place !== undefined) return place;
  }
  return isFilePath(target) ? `${target}:1` : target;
}
