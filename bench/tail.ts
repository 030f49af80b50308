// The slowest of a million requests: null disks of ours and of kublk, taking turns.
//
//   bun bench/tail.ts [--kernel 6.12|7.3] [--requests N]      boots a guest, prints a table

import { parseArgs } from "node:util";

import { quote } from "../test/support/guest/boot.ts";
import { runGuest } from "../test/support/guest/guest.ts";
import { KERNELS } from "../test/support/guest/kernel.ts";
import { buildKublk } from "../test/support/peer.ts";
import { type Cell, CELLS, nameOf } from "./matrix.ts";
import { fio, warm } from "./measure.ts";
import { type Server, startAll } from "./servers.ts";

const { values, positionals } = parseArgs({
  options: {
    kernel: { type: "string", default: "7.3" },
    requests: { type: "string", default: "1000000" },
  },
  allowPositionals: true,
});
const TURNS = 20;
const BLOCK_BYTES = 4096;
const NAMES = ["null 4k read, copy, 1 x 1", "null 4k read, copy, 1 x 16"];
const SHARES = [0.5, 0.99, 0.999, 0.9999, 1];
const HEAD = `| cell | server | requests | p50 | p99 | p99.9 | p99.99 | longest, µs |
| --- | --- | --: | --: | --: | --: | --: | --: |`;

/** How many requests took so many ns. */
type Bins = Map<number, number>;

async function outside(): Promise<number> {
  const kernel = KERNELS.find((name) => name === values.kernel);
  if (kernel === undefined) throw new Error(`--kernel is one of ${KERNELS.join(", ")}`);
  const { exitCode } = await runGuest({
    kernel,
    command: `node_modules/.bin/bun bench/tail.ts --requests ${values.requests} ${quote(await buildKublk())}`,
    timeoutMs: 3_600_000,
    parallel: true,
    onOutput: (text) => process.stdout.write(text),
  });
  return exitCode;
}

/** In µs: `share` of all requests took no longer. */
function percentile(bins: Bins, share: number): number {
  const sorted = [...bins].toSorted(([a], [b]) => a - b);
  const all = sorted.reduce((sum, [, count]) => sum + count, 0);
  let seen = 0;
  const found = sorted.find(([, count]) => (seen += count) >= all * share);
  return (found ?? [Number.NaN])[0]! / 1000;
}

function inside(kublk: string): number {
  const cells = CELLS.filter((cell) => NAMES.includes(nameOf(cell)));
  const all = startAll(cells[0]!, kublk);
  try {
    measureAll(
      cells,
      all.filter(({ pid }) => pid > 0),
    );
  } finally {
    for (const { stop } of all) stop();
  }
  return 0;
}

function measureAll(cells: readonly Cell[], servers: readonly Server[]): void {
  for (const server of servers) warm(server, cells[0]!);
  const count = Math.ceil(Number(values.requests) / TURNS);
  console.log(HEAD);
  for (const cell of cells) {
    const found = servers.map(({ name, path }) => ({ name, path, bins: new Map() as Bins }));
    for (let turn = 0; turn < TURNS; turn++) {
      for (const { path, bins } of turn % 2 === 0 ? found : found.toReversed()) {
        // Without --io_size it would end with the disk's last block.
        const words = [`--io_size=${count * BLOCK_BYTES}`, "--output-format=json+"];
        const job = fio(path, cell, ...words);
        for (const [ns, times] of Object.entries<number>(job.read.clat_ns.bins)) {
          bins.set(Number(ns), (bins.get(Number(ns)) ?? 0) + times);
        }
      }
    }
    for (const { name, bins } of found) {
      const sum = [...bins.values()].reduce((total, times) => total + times, 0);
      const times = SHARES.map((share) => percentile(bins, share).toFixed(0));
      console.log(`| ${[nameOf(cell), name, sum, ...times].join(" | ")} |`);
    }
  }
}

const [kublk] = positionals;
process.exit(await (kublk === undefined ? outside() : inside(kublk)));
