// `npm run bench`: measures everything that docs/performance.md says.
//
//   bun bench/main.ts [--quick] [--kernel 6.12|7.3] [--rounds N] [--seconds N] [--write] [--fresh]
//
//   --quick   few cells, few rounds: 10 minutes; prints the tables. The full run takes up to 2 hours and
//             writes them into docs/performance.md, which --write makes the quick one do, too
//   --fresh   forgets what an earlier run of the same executable has measured

import { readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { cacheRoot } from "../test/support/cache.ts";
import { quote } from "../test/support/guest/boot.ts";
import { runGuest } from "../test/support/guest/guest.ts";
import type { KernelName } from "../test/support/guest/kernel.ts";
import { buildKublk } from "../test/support/peer.ts";
import { type Cell, CELLS } from "./matrix.ts";
import { type Facts, page } from "./page.ts";
import type { Figure, Plan } from "./plan.ts";
import { median, Results } from "./results.ts";

const PAGE = "docs/performance.md";
const BUN = "node_modules/.bin/bun";
const FULL = { rounds: 7, seconds: 2, lastBeginMs: 6_600_000, timeoutMs: 7_200_000, guests: 4 };
const QUICK = { rounds: 3, seconds: 1, lastBeginMs: 420_000, timeoutMs: 510_000, guests: 1 };

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    kernel: { type: "string", default: "7.3" },
    rounds: { type: "string" },
    seconds: { type: "string" },
    write: { type: "boolean", default: false },
    fresh: { type: "boolean", default: false },
  },
});
const form = values.quick ? QUICK : FULL;
const rounds = values.rounds === undefined ? form.rounds : Number(values.rounds);
const seconds = values.seconds === undefined ? form.seconds : Number(values.seconds);
const cells = values.quick ? CELLS.filter(({ quick }) => quick) : CELLS;

function openResults(): Results {
  const name = `${values.kernel}-${values.quick ? "quick" : "full"}.jsonl`;
  const file = join(cacheRoot(), "bench", name);
  if (values.fresh) rmSync(file, { force: true });
  const program = Bun.SHA256.hash(readFileSync("dist/ublk-bun"), "hex");
  return new Results(file, `${program}, ${rounds} rounds of ${seconds} s`);
}

/** One guest's worth of what is missing. */
async function measure(results: Results, missing: readonly Cell[]): Promise<void> {
  const plan: Plan = {
    kublk: await buildKublk(),
    cells: missing,
    rounds,
    seconds,
    lastBeginMs: form.lastBeginMs - performance.now(),
    hasLife: !results.hasLife,
  };
  const file = join(cacheRoot(), "bench", "plan.json");
  writeFileSync(file, JSON.stringify(plan));
  let line = "";
  const onOutput = (text: string) => {
    const lines = (line + text).split("\n");
    line = lines.pop()!;
    for (const each of lines) {
      if (each.startsWith('{"kind"')) results.add(JSON.parse(each) as Figure);
      else process.stderr.write(`${each}\n`);
    }
  };
  const { exitCode } = await runGuest({
    kernel: values.kernel as KernelName,
    command: `${BUN} bench/guest.ts ${quote(file)}`,
    timeoutMs: form.timeoutMs - performance.now(),
    parallel: true,
    onOutput,
  });
  if (exitCode !== 0) process.stderr.write(`bench: the guest ended with ${exitCode}\n`);
}

function size(): string {
  const time = (command: string) => {
    const began = performance.now();
    Bun.spawnSync([command, "--version"]);
    return performance.now() - began;
  };
  const pairs = Array.from({ length: 25 }, () => [time("dist/ublk-bun"), time(BUN)] as const);
  const times = median(pairs.map(([mine]) => mine)) / median(pairs.map(([, bun]) => bun));
  const mb = (statSync("dist/ublk-bun").size / 1e6).toFixed(1);
  return [
    "| what | measured | bar |",
    "| --- | --- | --- |",
    `| \`ublk-bun --version\`, times \`bun --version\` (medians of 25) | ${times.toFixed(2)} | 2.5 |`,
    `| executable | ${mb} MB | 115 MB |`,
  ].join("\n");
}

/** The table that a script prints. */
async function table(script: string, ...more: string[]): Promise<string> {
  const child = Bun.spawn([BUN, script, ...more], { stdout: "pipe", stderr: "inherit" });
  const printed = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`${script} failed`);
  return printed.trim();
}

const results = openResults();
const isMissing = (cell: Cell) => results.rounds(cell) < rounds;
const isLate = () => performance.now() > form.lastBeginMs;
for (let guest = 0; guest < form.guests && cells.some(isMissing) && !isLate(); guest++) {
  await measure(results, cells.filter(isMissing));
}
const words = [
  values.quick ? " --quick" : "",
  values.seconds === undefined ? "" : ` --seconds ${seconds}`,
  values.write && values.quick ? " --write" : "",
];
const facts: Facts = {
  date: new Date().toISOString().slice(0, 10),
  host: `host: ${cpus().length} x ${cpus()[0]!.model.trim()}`,
  kernel: values.kernel,
  command: `npm run bench --${words.join("")}`.replace(/ --$/, ""),
  rounds,
  seconds,
  nop: await table("bench/nop.ts", ...(values.quick ? ["--rounds", "31"] : [])),
  queue: await table("bench/queue.ts", ...(values.quick ? ["--rounds", "5"] : [])),
  size: size(),
};
const text = page(results, cells, facts);
console.log(text);
if (values.write || !values.quick) {
  const old = readFileSync(PAGE, "utf8");
  writeFileSync(PAGE, `${old.slice(0, old.indexOf("<!-- made by"))}${text}`);
  Bun.spawnSync([BUN, "fmt", PAGE]);
}
