// The tables of docs/performance.md, made of results.

import { type Cell, nameOf } from "./matrix.ts";
import type { Idle, ServerName } from "./plan.ts";
import { median, type Ratio, type Results } from "./results.ts";

export interface Facts {
  readonly date: string;
  readonly host: string;
  readonly kernel: string;
  readonly command: string;
  readonly rounds: number;
  readonly seconds: number;
  /** Tables of nop.ts and queue.ts, and the lines about size, in Markdown. */
  readonly nop: string;
  readonly queue: string;
  readonly size: string;
}

/** In Markdown. */
export const show = (ratio: Ratio | undefined) =>
  ratio === undefined || !Number.isFinite(ratio.of)
    ? "–"
    : `**${ratio.of.toFixed(2)}** (${ratio.least.toFixed(2)}–${ratio.most.toFixed(2)})`;

const row = (...cells: readonly string[]) => `| ${cells.join(" | ")} |`;
const table = (head: readonly string[], rows: readonly string[]) =>
  [row(...head), row(...head.map(() => "---")), ...rows].join("\n");

function besideKublk(results: Results, cells: readonly Cell[]): string {
  const head = ["cell", "IOPS", "p50", "p99", "p99.9", "CPU per I/O", "switches per I/O"];
  const rows = cells.map((cell) => {
    const to = (measure: Parameters<Results["ratio"]>[2]) =>
      show(results.ratio(cell, "kublk", measure));
    const measures = ["iops", "p50Us", "p99Us", "p999Us", "cpuNsPerIo", "switchesPerIo"] as const;
    return row(nameOf(cell), ...measures.map(to));
  });
  return table(head, rows);
}

function absolute(results: Results, cells: readonly Cell[]): string {
  const head = ["cell", "IOPS", "CPU µs per I/O", "of it user", "RSS MB"];
  const rows = cells.map((cell) => {
    const both = (text: (server: ServerName) => string) => `${text("ublk-bun")}, ${text("kublk")}`;
    const of = (server: ServerName, measure: Parameters<Results["median"]>[2]) =>
      results.median(cell, server, measure);
    return row(
      nameOf(cell),
      both((server) => of(server, "iops").toFixed(0)),
      both((server) => (of(server, "cpuNsPerIo") / 1000).toFixed(1)),
      both((server) => `${(of(server, "userShare") * 100).toFixed(0)} %`),
      both((server) => (of(server, "rssBytes") / 1e6).toFixed(1)),
    );
  });
  return table(head, rows);
}

function besideLimits(results: Results, cells: readonly Cell[]): string {
  const names = ["null_blk", "kernel loop", "raw"] as const;
  const rows = cells
    .filter((cell) => names.some((name) => results.samples(cell, name).length > 0))
    .map((cell) =>
      row(nameOf(cell), ...names.map((name) => show(results.ratio(cell, name, "iops")))),
    );
  return table(["cell", ...names.map((name) => `IOPS, ours to ${name}`)], rows);
}

function wakeUpsText({ wakeUpsPerSecond }: Idle): string {
  const each = Object.entries(wakeUpsPerSecond).map(
    ([name, times]) => `${name} ${times.toFixed(1)}`,
  );
  return each.length === 0 ? "0" : each.join(", ");
}

function life({ starts, idles }: Results): string {
  const of = (server: string, what: "addMs" | "recoverMs") =>
    median(starts.filter((start) => start.server === server).map((start) => start[what]));
  const rows = (["addMs", "recoverMs"] as const).map((what) => {
    const [mine, other] = [of("ublk-bun", what), of("kublk", what)];
    const name = what === "addMs" ? "`add` until it returns" : "`recover` until it returns";
    return row(name, `${mine.toFixed(0)} ms`, `${other.toFixed(0)} ms`, (mine / other).toFixed(2));
  });
  const idle = (server: string) => idles.find((each) => each.server === server);
  const [mine, other] = [idle("ublk-bun"), idle("kublk")];
  if (mine !== undefined && other !== undefined) {
    const mb = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
    rows.push(
      row("idle: RSS", mb(mine.rssBytes), mb(other.rssBytes), "–"),
      row("idle: wake-ups a second", wakeUpsText(mine), wakeUpsText(other), "–"),
    );
  }
  return table(["null, 1 queue", "ublk-bun", "kublk", "ratio"], rows);
}

/** Rounds of one cell differ by more than this: a bar missed by less is not known to be missed. */
const NEAR = 0.05;

interface Bar {
  readonly what: string;
  readonly bar: number;
  /** 1: at least; -1: at most. */
  readonly sign: 1 | -1;
  readonly ratios: readonly { readonly name: string; readonly ratio: number }[];
}

/** User time of a request, which comes from the kernel's ticks. */
function userRatio(results: Results, cell: Cell): number {
  const of = (server: ServerName) =>
    median(results.samples(cell, server).map((each) => each.cpuNsPerIo * each.userShare));
  return of("ublk-bun") / of("kublk");
}

/** Ours in the mode that is our best to theirs in their best, for cells that differ in nothing else. */
function bestModes(results: Results, cells: readonly Cell[]): Bar["ratios"] {
  const alike = Map.groupBy(
    cells,
    ({ target, block, direction, queues, depth }) =>
      `${target} ${block} ${direction}, best mode, ${queues} x ${depth}`,
  );
  return [...alike].map(([name, group]) => {
    const best = (server: ServerName) =>
      Math.max(...group.map((cell) => results.median(cell, server, "iops")));
    return { name, ratio: best("ublk-bun") / best("kublk") };
  });
}

function barsOf(results: Results, cells: readonly Cell[]): readonly Bar[] {
  const to = (
    server: ServerName,
    measure: Parameters<Results["ratio"]>[2],
    among: readonly Cell[],
  ) =>
    among.flatMap((cell) => {
      const ratio = results.ratio(cell, server, measure)?.of;
      return ratio === undefined ? [] : [{ name: nameOf(cell), ratio }];
    });
  const null4k = cells.filter(({ target, block }) => target === "null" && block === "4k");
  const isBatch = ({ mode }: Cell) => mode.startsWith("batch");
  const ordinary = null4k.filter((cell) => !isBatch(cell));
  const batch = null4k.filter(isBatch);
  const deep = null4k.filter(({ depth }) => depth === 128);
  const loop = cells.filter(({ target }) => target === "loop");
  const read = (cell: Cell) => cell.direction === "read";
  const large = loop.filter(({ block }) => block !== "4k");
  const userRatios = deep.map((cell) => ({ name: nameOf(cell), ratio: userRatio(results, cell) }));
  return [
    { what: "null 4k: IOPS", bar: 1, sign: 1, ratios: to("kublk", "iops", ordinary) },
    {
      what: "null 4k: CPU per I/O",
      bar: 1.03,
      sign: -1,
      ratios: to("kublk", "cpuNsPerIo", ordinary),
    },
    { what: "null 4k, batch: IOPS", bar: 1, sign: 1, ratios: to("kublk", "iops", batch) },
    {
      what: "null 4k, batch: CPU per I/O",
      bar: 1.03,
      sign: -1,
      ratios: to("kublk", "cpuNsPerIo", batch),
    },
    {
      what: "null 4k reads at depth 128, best mode of each: IOPS",
      bar: 1.05,
      sign: 1,
      ratios: bestModes(results, deep.filter(read)),
    },
    {
      what: "null 4k at depth 128: user CPU per I/O (from ticks)",
      bar: 1.25,
      sign: -1,
      ratios: userRatios,
    },
    {
      what: "loop reads, best mode of each: IOPS",
      bar: 1,
      sign: 1,
      ratios: bestModes(results, loop.filter(read)),
    },
    {
      what: "loop 64k and 512k, beside the kernel's loop: IOPS",
      bar: 0.9,
      sign: 1,
      ratios: to("kernel loop", "iops", large),
    },
  ];
}

/** How many cells reach a bar, and which do not. */
function bars(results: Results, cells: readonly Cell[]): string {
  const rows = barsOf(results, cells).map(({ what, bar, sign, ratios }) => {
    const missing = ratios.filter(({ ratio }) => sign * (ratio - bar) < 0);
    const far = missing.filter(({ ratio }) => Math.abs(ratio - bar) > NEAR);
    const names =
      far.map(({ name, ratio }) => `${name} (${ratio.toFixed(2)})`).join("; ") || "none";
    return row(
      what,
      `${sign > 0 ? "≥" : "≤"} ${bar.toFixed(2)}`,
      `${ratios.length - missing.length} of ${ratios.length}`,
      String(missing.length - far.length),
      names,
    );
  });
  const head = [
    "ours to the peer's",
    "bar",
    "reached in",
    "missed by 0.05 at most",
    "missed by more",
  ];
  return table(head, rows);
}

/** Everything below the hand-written part. */
export function page(results: Results, all: readonly Cell[], facts: Facts): string {
  const cells = all.filter((cell) => results.rounds(cell) > 0);
  const left = all.filter((cell) => results.rounds(cell) === 0).map((cell) => nameOf(cell));
  const rounds = Math.min(...cells.map((cell) => results.rounds(cell)));
  return `<!-- made by: ${facts.command} -->

Measured on ${facts.date}; ${facts.host}; Bun ${Bun.version}; \`${facts.command}\`.

## Size and start

${facts.size}

## The ring loop against C

NOPs through our Ring class, and through C with liburing's inline functions, in one process, on the
host: \`bun bench/nop.ts\`. ns per operation; bar: ratio of medians at most 1.03.

${facts.nop}

## What a request costs on our side

Ring, queue and the null target, without a driver, on the host: \`bun bench/queue.ts\`. Every commit fails at
once for want of a device, and that is taken for the next request. CPU time a request, all of it:

${facts.queue}

## Beside the kernel's own test server

fio (libaio, direct, random) on Linux ${facts.kernel} in an emulated guest of 2 CPUs; a cell is block size,
direction, mode, queues x depth. Both servers are up and warm (ours 60,000 requests, kublk 6000) and take turns,
${rounds} to ${facts.rounds} rounds of ${facts.seconds} s a cell. Ratios of medians, ublk-bun to kublk, with the lowest and
the highest round in parentheses. Emulation slows compiled C and JIT code only roughly alike: these
figures say that nothing is badly off; the table above carries the claim about the language.

${left.length === 0 ? "" : `Not measured, for want of time: ${left.join("; ")}.\n`}
${bars(results, cells)}

${besideKublk(results, cells)}

Medians, ublk-bun and kublk; user time comes from the kernel's ticks, so only roughly:

${absolute(results, cells)}

Beside the kernel's own disks, which need no server:

${besideLimits(results, cells)}

${results.idles.length === 0 ? "" : `A disk's beginning, and a disk that nobody uses:\n\n${life(results)}\n`}`;
}
