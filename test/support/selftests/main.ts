// The kernel's ublk test scripts by hand, in a guest.
//
//   npm run selftests -- [--peer [--record]] [--kernel 7.3] [NAME…]     NAME: null_01, or loop for all loop_*

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { quote } from "../guest/boot.ts";
import { runGuest } from "../guest/guest.ts";
import { KERNELS } from "../guest/kernel.ts";
import { buildKublk } from "../peer.ts";
import { buildOddProgram } from "../torture/build.ts";
import type { Outcome } from "./outcome.ts";
import type { Result, Server } from "./scripts.ts";

const GUEST_SECONDS_MAX = 5400;
const TAIL_LINES = 15;
const RECORD = join(import.meta.dir, "theirs.json");

const { values, positionals } = parseArgs({
  options: {
    peer: { type: "boolean", default: false },
    record: { type: "boolean", default: false },
    kernel: { type: "string", default: "7.3" },
    // Said to itself, in the guest.
    here: { type: "boolean", default: false },
  },
  allowPositionals: true,
});
const server: Server = values.peer ? "kublk" : "ublk-bun";

/** One line a script; the output of those that did not pass below it. */
function show({ name, outcome, seconds, output }: Result): void {
  console.log(`${name} ${outcome} ${seconds} s`);
  if (outcome === "pass") return;
  const lines = output.split("\n").slice(-TAIL_LINES);
  console.log(lines.map((line) => `    ${line}`).join("\n"));
}

function isWanted(name: string): boolean {
  return (
    positionals.length === 0 ||
    positionals.some((word) => name === word || name.startsWith(`${word}_`))
  );
}

function summary(outcomes: readonly Outcome[]): string {
  const of = (wanted: Outcome) => outcomes.filter((outcome) => outcome === wanted).length;
  return (
    `${server}: ${of("pass")} of ${outcomes.length} pass, ${of("skip")} skip, ` +
    `${of("lacks")} want what is not there yet, ${of("fail")} fail`
  );
}

async function here(): Promise<number> {
  // Where there is no driver, on the way to the guest, it refuses to be loaded.
  const { Scripts } = await import("./scripts.ts");
  await using scripts = await Scripts.open(server);
  const outcomes: Outcome[] = [];
  for (const name of scripts.names.filter(isWanted)) {
    const result = await scripts.run(name);
    show(result);
    outcomes.push(result.outcome);
  }
  console.log(summary(outcomes));
  return outcomes.length > 0 && !outcomes.includes("fail") ? 0 : 1;
}

async function inGuest(): Promise<number> {
  // Here, because a guest has no network.
  await buildKublk();
  await buildOddProgram();
  const kernel = KERNELS.find((name) => name === values.kernel);
  if (kernel === undefined) throw new Error(`--kernel is one of ${KERNELS.join(", ")}`);
  const words = [process.execPath, resolve(import.meta.filename), "--here"];
  if (values.peer) words.push("--peer");
  const { output, exitCode, kernelProblems } = await runGuest({
    kernel,
    command: [...words, ...positionals].map(quote).join(" "),
    timeoutMs: GUEST_SECONDS_MAX * 1000,
    onOutput: (text) => process.stdout.write(text),
  });
  for (const line of kernelProblems) console.log(`the kernel's log says: ${line}`);
  if (values.record) await record(output);
  return exitCode;
}

/** Keeps what their server did, to compare ours with; scripts that did not run keep their entry. */
async function record(output: string): Promise<void> {
  const ended = [...output.matchAll(/^(\w+_\d+) (pass|skip|fail) \d+ s\r?$/gm)];
  const scripts = Object.fromEntries(ended.map(([, name, outcome]) => [name!, outcome!]));
  const date = new Date().toISOString().slice(0, 10);
  const before = existsSync(RECORD) ? await Bun.file(RECORD).json() : {};
  const all = Object.entries({ ...before.scripts, ...scripts }).toSorted();
  const kept = { server, kernel: values.kernel, date, scripts: Object.fromEntries(all) };
  await Bun.write(RECORD, `${JSON.stringify(kept, undefined, 2)}\n`);
}

process.exit(values.here ? await here() : await inGuest());
