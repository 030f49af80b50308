// `npm run torture`: what test/kernel/torture.test.ts does in small, done at length in a guest.
//
//   npm run torture -- [--kernel 6.12|7.3] [--kills N] [--seed S] [--batch] [NAME…]     NAME: of ALL, below
//
// N servers die under a verifying fio, by hand and under watch; a fifth of that under the history check, and
// another under a mounted file system. With NAMEs, N are shared among those.
// --batch: every disk with --batch; without it `verified` alone has such disks, beside the others.

import { existsSync } from "node:fs";
import { parseArgs } from "node:util";

import { runGuest } from "../guest/guest.ts";
import { type KernelName, KERNELS } from "../guest/kernel.ts";
import type { Torture, TortureResult } from "./torture.ts";

/** A kill and its recovery take some seconds in a guest, and so does everything around them. */
const MS_PER_KILL_MAX = 30_000;

const { values, positionals } = parseArgs({
  options: {
    kernel: { type: "string", default: "7.3" },
    kills: { type: "string", default: "1000" },
    batch: { type: "boolean", default: false },
    seed: { type: "string", default: String(Math.floor(Math.random() * 2 ** 31)) },
  },
  allowPositionals: true,
});
const [kills, seed] = [Number(values.kills), Number(values.seed)];

/** Boots a guest of the kernel and does it all there. */
async function outside(): Promise<number> {
  const kernel = KERNELS.find((name) => name === values.kernel);
  if (kernel === undefined) throw new Error(`--kernel is one of ${KERNELS.join(", ")}`);
  const { buildOddProgram } = await import("./build.ts");
  await buildOddProgram();
  const words = ["--kills", kills, "--seed", seed, ...positionals].join(" ");
  const { exitCode, kernelProblems } = await runGuest({
    kernel: kernel satisfies KernelName,
    env: values.batch ? { UBLK_TEST_BATCH: "1" } : {},
    command: `node_modules/.bin/bun test/support/torture/main.ts ${words} 2>&1`,
    timeoutMs: 600_000 + kills * MS_PER_KILL_MAX,
    parallel: true,
    onOutput: (text) => process.stdout.write(text),
  });
  for (const line of kernelProblems) console.log(`the kernel's log says: ${line}`);
  return exitCode;
}

type Entry = readonly [
  name: string,
  share: number,
  run: (torture: Torture) => Promise<TortureResult>,
];

/** Here, where the driver is; one after the other, each with its share of the kills. */
async function inside(): Promise<number> {
  const { verified, watched } = await import("./verified.ts");
  const { historyCheck } = await import("./history-check.ts");
  const { mounted } = await import("./mounted.ts");
  const { steps } = await import("./steps.ts");
  const { torture } = await import("./torture.ts");
  const all: readonly Entry[] = [
    ["verified", 0.75, verified],
    ["watched", 0.25, watched],
    ["history", 0.2, historyCheck],
    ["mounted", 0.2, mounted],
    ["steps", 0, steps],
  ];
  const chosen = all.filter(([name]) => positionals.length === 0 || positionals.includes(name));
  if (chosen.length < positionals.length) {
    throw new Error(`there are: ${all.map(([name]) => name).join(", ")}`);
  }
  console.log(
    `seed ${seed}, kernel ${(await Bun.file("/proc/sys/kernel/osrelease").text()).trim()}`,
  );
  const rows: string[] = [];
  let failed = 0;
  const isAll = chosen.length === all.length;
  const whole = isAll ? 1 : chosen.reduce((sum, [, share]) => sum + share, 0) || 1;
  for (const [name, share, run] of chosen) {
    try {
      const say = (line: string) => console.log(`  ${line}`);
      const result = await run(torture(Math.ceil((kills * share) / whole), seed, say));
      rows.push(row(name, result));
    } catch (error) {
      failed++;
      console.log(error);
      rows.push(`${name.padEnd(10)} FAILED`);
    }
    console.log(rows.at(-1));
  }
  console.log(`\n${rows.join("\n")}`);
  return failed === 0 ? 0 : 1;
}

function row(name: string, { kills: count, detail, recoverMs }: TortureResult): string {
  const sorted = recoverMs.toSorted((a, b) => a - b);
  const median = Math.round(sorted[sorted.length >> 1] ?? 0);
  const most = Math.round(sorted.at(-1) ?? 0);
  const times = sorted.length === 0 ? "" : `; recover: median ${median} ms, most ${most} ms`;
  return `${name.padEnd(10)} ${count} kills, ${detail}${times}`;
}

process.exit(await (existsSync("/dev/ublk-control") ? inside() : outside()));
