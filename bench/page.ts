// The tables of docs/performance.md, made of results.

import { type Cell, nameOf } from "./matrix.ts";
import type { ServerName } from "./plan.ts";
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
      row(
        "idle: wake-ups a second",
        mine.wakeUpsPerSecond.toFixed(1),
        other.wakeUpsPerSecond.toFixed(1),
        "–",
      ),
    );
  }
  return table(["null, 1 queue", "ublk-bun", "kublk", "ratio"], rows);
}

/** How many cells reach a bar, and which do not. */
function bars(results: Results, cells: readonly Cell[]): string {
  const null4k = cells.filter(({ target, block }) => target === "null" && block === "4k");
  const loop = cells.filter(({ target }) => target === "loop");
  const lines = [
    ["null 4k: IOPS, ours to kublk, at least 0.95", null4k, "iops", 0.95, 1],
    ["null 4k: server CPU per I/O, at most 1.10", null4k, "cpuNsPerIo", 1.1, -1],
    ["null 4k: p99.9, at most 1.10", null4k, "p999Us", 1.1, -1],
    ["loop: IOPS, ours to kublk, at least 1.00", loop, "iops", 1, 1],
  ] as const;
  const rows = lines.map(([what, among, measure, bar, sign]) => {
    const measured = among.filter((cell) => results.rounds(cell) > 0);
    const missed = measured.filter(
      (cell) => sign * (results.ratio(cell, "kublk", measure)!.of - bar) < 0,
    );
    const names = missed.map((cell) => nameOf(cell)).join("; ") || "none";
    return row(what, `${measured.length - missed.length} of ${measured.length}`, names);
  });
  return table(["bar", "reached in", "missed in"], rows);
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
host: \`bun bench/nop.ts\`. ns per operation; bar: ratio of medians at most 1.05.

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
