// `npm run bench`: measures everything that docs/performance.md says, and prints that page's tables.
//
//   bun bench/main.ts [--kernel 6.12|7.3] [--rounds N] [--write]     --write: into docs/performance.md

import { readFileSync, statSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { parseArgs } from "node:util";

import { runGuest } from "../test/support/guest/guest.ts";
import type { KernelName } from "../test/support/guest/kernel.ts";
import { buildKublk } from "../test/support/peer.ts";

const { values } = parseArgs({
  options: {
    kernel: { type: "string", default: "7.3" },
    rounds: { type: "string", default: "7" },
    write: { type: "boolean", default: false },
  },
});
const PAGE = "docs/performance.md";
const BUN = "node_modules/.bin/bun";

interface Sample {
  readonly iops: number;
  readonly cpuNsPerIo: number;
}
interface Cell {
  readonly kind: "cell";
  readonly queues: number;
  readonly depth: number;
  readonly samples: { readonly "ublk-bun": Sample[]; readonly kublk: Sample[] };
}
interface Idle {
  readonly kind: "idle";
  readonly rssBytes: number;
}

function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Ratios round by round: their middle and how far they spread. */
function ratio(cell: Cell, of: (sample: Sample) => number): string {
  const mine = cell.samples["ublk-bun"].map(of);
  const theirs = cell.samples.kublk.map(of);
  const each = mine.map((value, i) => value / theirs[i]!);
  const spread = `${Math.min(...each).toFixed(2)} to ${Math.max(...each).toFixed(2)}`;
  return `**${(median(mine) / median(theirs)).toFixed(2)}** (${spread})`;
}

async function startUp(): Promise<string> {
  const time = (command: string) => {
    const began = performance.now();
    Bun.spawnSync([command, "--version"]);
    return performance.now() - began;
  };
  const mine: number[] = [];
  const theirs: number[] = [];
  for (let i = 0; i < 25; i++) {
    mine.push(time("dist/ublk-bun"));
    theirs.push(time(BUN));
  }
  const times = median(mine) / median(theirs);
  return `| \`ublk-bun --version\`, times \`bun --version\` (medians of 25) | ${times.toFixed(2)} | 2.5 |`;
}

async function nullCells(): Promise<(Cell | Idle)[]> {
  const kublk = await buildKublk();
  const { output, exitCode } = await runGuest({
    kernel: values.kernel as KernelName,
    command: `${BUN} bench/null.ts ${kublk} ${values.rounds}`,
    timeoutMs: 3_000_000,
    onOutput: (text) => process.stderr.write(text),
  });
  if (exitCode !== 0) throw new Error(`bench/null.ts: exit ${exitCode}`);
  return output
    .split("\n")
    .filter((line) => line.startsWith('{"kind"'))
    .map((line) => JSON.parse(line) as Cell | Idle);
}

async function nop(): Promise<string> {
  const child = Bun.spawn([BUN, "bench/nop.ts"], { stdout: "pipe", stderr: "inherit" });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error("bench/nop.ts failed");
  return text.trim();
}

const figures = await nullCells();
const cells = figures.filter((figure): figure is Cell => figure.kind === "cell");
const idle = figures.find((figure): figure is Idle => figure.kind === "idle")!;
const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;

const tables = `<!-- made by: npm run bench -- --write -->

Measured on ${new Date().toISOString().slice(0, 10)}; host: ${cpus().length} x ${cpus()[0]!.model.trim()}; Bun ${Bun.version}.

## Size and start

| what | measured | bar |
| --- | --- | --- |
${await startUp()}
| executable | ${megabytes(statSync("dist/ublk-bun").size)} | 115 MB |
| idle daemon, null, 2 queues: RSS (guest) | ${megabytes(idle.rssBytes)} | 45 MB |

## The ring loop against C

NOPs through our Ring class, and through C with liburing's inline functions, in one process, on the
host: \`bun bench/nop.ts\`. ns per operation; bar: ratio of medians at most 1.05.

${await nop()}

## The null disk against the kernel's own test server

4 KiB random reads, fio with libaio, Linux ${values.kernel} in an emulated guest (2 CPUs, TCG), both
servers up and warm (60,000 requests each), alternating, ${values.rounds} rounds: \`bun bench/null.ts KUBLK\` inside
\`npm run guest\`. Ratios of medians, ublk-bun to kublk, with the lowest and highest round; bars:
IOPS at least 0.95, CPU at most 1.10. Emulation slows compiled C and JIT code only roughly alike, so
these figures say that nothing is badly off; the table above carries the claim about the language.

| queues | depth | IOPS, ratio | server CPU per I/O, ratio | IOPS (ublk-bun, kublk) |
| --- | --- | --- | --- | --- |
${cells
  .map((cell) => {
    const iops = (name: "ublk-bun" | "kublk") =>
      Math.round(median(cell.samples[name].map((sample) => sample.iops)));
    const cost = ratio(cell, (sample) => sample.cpuNsPerIo);
    const speed = ratio(cell, (sample) => sample.iops);
    return `| ${cell.queues} | ${cell.depth} | ${speed} | ${cost} | ${iops("ublk-bun")}, ${iops("kublk")} |`;
  })
  .join("\n")}
`;

console.log(tables);
if (values.write) {
  const page = readFileSync(PAGE, "utf8");
  writeFileSync(PAGE, `${page.slice(0, page.indexOf("<!-- made by"))}${tables}`);
  Bun.spawnSync([BUN, "fmt", PAGE]);
}
