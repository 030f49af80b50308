// The kernel's ublk test scripts by hand, in a guest.
//
//   npm run selftests -- [--peer [--record]] [--kernel 7.3] [NAME…]     NAME: null_01, or loop for all loop_*

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { quote } from "../guest/boot.ts";
import { runGuest } from "../guest/guest.ts";
import { KERNELS } from "../guest/kernel.ts";
import { buildKublk, selftests } from "../peer.ts";
import { buildOddProgram } from "../torture/build.ts";
import { scriptNames, TIMED } from "./names.ts";
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
type Ended = Readonly<Record<string, string>>;

const kernel = KERNELS.find((name) => name === values.kernel);
if (kernel === undefined) throw new Error(`--kernel is one of ${KERNELS.join(", ")}`);
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

function summary(outcomes: readonly string[]): string {
  const of = (wanted: Outcome) => outcomes.filter((outcome) => outcome === wanted).length;
  return (
    `${server}: ${of("pass")} of ${outcomes.length} pass, ${of("skip")} skip, ` +
    `${of("lacks")} want what is not there yet, ${of("fail")} fail`
  );
}

async function here(): Promise<void> {
  // Where there is no driver, on the way to the guest, it refuses to be loaded.
  const { Scripts } = await import("./scripts.ts");
  await using scripts = await Scripts.open(server);
  for (const name of positionals) show(await scripts.run(name));
}

/** What each script came to; one that is not there did not end. */
async function inGuest(names: readonly string[], ownClock: boolean): Promise<Ended> {
  if (names.length === 0) return {};
  const words = [process.execPath, resolve(import.meta.filename), "--here"];
  if (values.peer) words.push("--peer");
  const { output, kernelProblems } = await runGuest({
    kernel: kernel!,
    command: [...words, ...names].map(quote).join(" "),
    timeoutMs: GUEST_SECONDS_MAX * 1000,
    ownClock,
    onOutput: (text) => process.stdout.write(text),
  });
  for (const line of kernelProblems) console.log(`the kernel's log says: ${line}`);
  const ended = output.matchAll(/^(\w+_\d+) (pass|skip|lacks|fail) \d+ s\r?$/gm);
  return Object.fromEntries([...ended].map(([, name, outcome]) => [name!, outcome!]));
}

async function all(): Promise<number> {
  // Here, because a guest has no network.
  await buildKublk();
  await buildOddProgram();
  const names = scriptNames(await selftests()).filter(isWanted);
  const untimed = names.filter((name) => !TIMED.includes(name));
  const ended = {
    ...(await inGuest(untimed, false)),
    ...(await inGuest(
      names.filter((name) => TIMED.includes(name)),
      true,
    )),
  };
  const outcomes = names.map((name) => ended[name] ?? "fail");
  console.log(summary(outcomes));
  if (values.record) await record(ended);
  return outcomes.length > 0 && !outcomes.includes("fail") ? 0 : 1;
}

/** Keeps what their server did, to compare ours with; scripts that did not run keep their entry. */
async function record(ended: Ended): Promise<void> {
  const date = new Date().toISOString().slice(0, 10);
  const before = existsSync(RECORD) ? await Bun.file(RECORD).json() : {};
  const scripts = Object.entries({ ...before.scripts, ...ended }).toSorted();
  const kept = { server, kernel: values.kernel, date, scripts: Object.fromEntries(scripts) };
  await Bun.write(RECORD, `${JSON.stringify(kept, undefined, 2)}\n`);
}

if (values.here) await here();
else process.exit(await all());
