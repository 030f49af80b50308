// The contract between a filter (a disk over another disk) and the server.
//
//   parse(word) -> spec         launcher; pure; the spec is kept for recovery
//   open(below, spec, …)        in the thread that serves the disk, at every start and every recovery

import type { DiskBelow, FilterDisk } from "ublk-bun";

import type { Spec } from "./target.ts";

/** One filter of a device, as its record keeps it. In the order given: the first lies on the target. */
export interface FilterSpec {
  /** Of one of our own, or the absolute path of a file. */
  readonly name: string;
  readonly spec: Spec;
}

/** The device that a filter is opened for: as a target's. */
export interface FilterContext {
  readonly deviceId: number;
  readonly identity: string;
  /** False for a recovery or an upgrade: an earlier server may still serve the disk. */
  readonly isNew: boolean;
  readonly queues: number;
}

/** One kind of filter. A new one is a file in `filters/` and a line in its index. */
export interface Filter<S extends Spec = Spec> {
  readonly name: string;
  /** How it is written, such as "cow=FILE". */
  readonly usage: string;
  /** One line for `ublk-bun help add`. */
  readonly summary: string;
  /** Called before `parse`, which reads only what is there. */
  load?(): Promise<void>;
  /** What stands after its name: checks it, makes paths absolute, opens nothing. Throws UsageError. */
  parse(word: string): S;
  /** Opens all it needs. What it throws, and an impossible shape, is said before anything is made. */
  open(below: DiskBelow, spec: S, context: FilterContext): Promise<FilterDisk> | FilterDisk;
  /** Files that no second disk may use. */
  files?(spec: S): readonly string[];
  /** False: what it does to a request must not be done twice. As a target's; default: it may. */
  repeatable?(spec: S): boolean;
  /** Files of its own code that are not what they were when the spec was made. */
  changed?(spec: S): readonly string[];
  /** The spec of the same word with the code as it is now. */
  renew?(spec: S): Promise<S>;
}

/** Lets the compiler check a filter's spec, then forgets it. */
export function defineFilter<S extends Spec>(filter: Filter<S>): Filter {
  return filter as unknown as Filter;
}
