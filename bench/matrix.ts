// What is measured: one line a group of cells, a cell being one load on one kind of disk.

export type Mode = "copy" | "user-copy" | "auto-zc" | "batch" | "batch auto-zc";
export type Direction = "read" | "write" | "mixed";

/** Disks that want the same server. */
export interface Setup {
  readonly target: "null" | "loop" | "stripe";
  readonly mode: Mode;
  readonly queues: 1 | 2;
}

/** A load on such a disk. */
export interface Cell extends Setup {
  readonly block: "4k" | "64k" | "512k";
  readonly direction: Direction;
  /** Of each of `queues` jobs. */
  readonly depth: 1 | 16 | 128;
  /** Among the few that `--quick` measures. */
  readonly quick: boolean;
}

type Line = Setup &
  Pick<Cell, "block" | "direction"> & { readonly depths: readonly Cell["depth"][] };

const ALL = [1, 16, 128] as const;

const LINES: readonly Line[] = [
  // null: what a request costs at the least.
  ...(["copy", "user-copy", "auto-zc", "batch", "batch auto-zc"] as const).flatMap((mode) =>
    ([1, 2] as const).map((queues) => line("null", mode, queues, "4k", "read", ALL)),
  ),
  line("null", "copy", 1, "4k", "write", ALL),
  line("null", "batch", 1, "4k", "write", [16]),
  line("null", "copy", 1, "64k", "read", [16]),
  line("null", "auto-zc", 1, "64k", "read", [16]),
  // loop on a RAM-backed block device: what moving data costs.
  line("loop", "auto-zc", 1, "4k", "read", ALL),
  line("loop", "auto-zc", 1, "64k", "read", ALL),
  line("loop", "auto-zc", 1, "512k", "read", ALL),
  line("loop", "auto-zc", 1, "4k", "write", [16]),
  line("loop", "auto-zc", 1, "64k", "write", [16]),
  line("loop", "auto-zc", 1, "4k", "mixed", [16]),
  line("loop", "copy", 1, "4k", "read", [16, 128]),
  line("loop", "copy", 1, "64k", "read", [16]),
  line("loop", "user-copy", 1, "4k", "read", [16]),
  line("loop", "batch auto-zc", 1, "4k", "read", [16, 128]),
  line("loop", "batch auto-zc", 1, "64k", "read", [16]),
  line("stripe", "auto-zc", 1, "4k", "read", [16, 128]),
  line("stripe", "auto-zc", 1, "64k", "read", [16]),
  line("stripe", "auto-zc", 1, "512k", "read", [16]),
  line("stripe", "copy", 1, "64k", "read", [16]),
];

/** The quick form: each kind of disk once, null at every depth. */
const QUICK = new Set([
  "null 4k read, copy, 1 x 1",
  "null 4k read, copy, 1 x 16",
  "null 4k read, copy, 1 x 128",
  "null 4k read, copy, 2 x 128",
  "null 4k read, batch, 1 x 1",
  "null 4k read, batch, 1 x 128",
  "loop 4k read, auto-zc, 1 x 16",
  "loop 64k read, auto-zc, 1 x 16",
]);

export const CELLS: readonly Cell[] = LINES.flatMap(({ depths, ...rest }) =>
  depths.map((depth) => {
    const cell = { ...rest, depth, quick: false };
    return { ...cell, quick: QUICK.has(nameOf(cell)) };
  }),
);

/** "loop 4k read, auto-zc, 1 x 16": queues x depth. */
export function nameOf({ target, block, direction, mode, queues, depth }: Cell): string {
  return `${target} ${block} ${direction}, ${mode}, ${queues} x ${depth}`;
}

function line(
  target: Line["target"],
  mode: Mode,
  queues: Line["queues"],
  block: Line["block"],
  direction: Direction,
  depths: Line["depths"],
): Line {
  return { target, mode, queues, block, direction, depths };
}
