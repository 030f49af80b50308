// `npm test`: static checks, unit tests, then the kernel tests in a guest of each kernel, side by side;
// the kernel's own scripts, and what runs again with --batch, in more of them, one wherever one has ended.
// Ends with one line that counts them all. UBLK_LONG=1 is `npm run test:long`: see long.ts.
//
//   bun test/support/suite.ts [--only checks|unit|kernel] [--kernel 6.12|7.3] [--batch] [FILE…]
//
// --batch: these kernel tests, or all of batch.ts, once with --batch on every disk, and nothing else.

import { existsSync } from "node:fs";
import { release } from "node:os";
import { parseArgs } from "node:util";

import { Glob } from "bun";

import { BATCH_FILES, BATCH_FILES_SHORT, BATCH_KERNEL } from "./batch.ts";
import { type Count, count, failures, sum } from "./count.ts";
import { type GuestOptions, runGuest } from "./guest/guest.ts";
import { type KernelName, KERNELS } from "./guest/kernel.ts";
import { runFiles } from "./kernel-files.ts";
import { isLong } from "./long.ts";
import { buildKublk } from "./peer.ts";
import { buildOddProgram } from "./torture/build.ts";

const UNIT_SECONDS_MAX = 600;
const KERNEL_SECONDS_MAX = isLong ? 10_800 : 5400;
const FILE_SECONDS_MAX = isLong ? 7200 : 900;
const TEST_MILLISECONDS_MAX = 300_000;
/** At once: each keeps a CPU busy. */
const GUESTS_MAX = 2;
/** Of what failed, so much is printed again at the end, where it is found. */
const FAILURES_SHOWN = 4;
const FAILURE_LINES_SHOWN = 40;

/** Test files under one kernel. */
interface KernelRun {
  readonly label: string;
  readonly kernel: KernelName;
  readonly files: readonly string[];
  /** What its guest has of its own. */
  readonly guest?: Pick<GuestOptions, "cpus" | "ownClock" | "parallel">;
  /** With --batch on every disk. */
  readonly isBatch?: boolean;
}

interface Alone {
  /** The only kernel that it is about. */
  readonly kernel?: KernelName;
  readonly cpus?: number;
  readonly ownClock?: boolean;
  readonly parallel?: boolean;
}

/**
 * Files that get a guest of their own when one of the others has ended. The kernel's scripts know the time
 * of real machines only, and one of them to the second; a disk has no more queues than there are CPUs.
 */
const ALONE: Readonly<Record<string, Alone>> = {
  "test/kernel/selftests.test.ts": { kernel: "7.3" },
  "test/kernel/selftests-timed.test.ts": { kernel: "7.3", ownClock: true },
  "test/kernel/verified.test.ts": { cpus: 4, parallel: true },
};

const onHost = process.env["UBLK_TEST"] === "host";
const bun = "node_modules/.bin/bun";
const { values, positionals } = parseArgs({
  options: {
    only: { type: "string" },
    kernel: { type: "string" },
    batch: { type: "boolean", default: false },
  },
  allowPositionals: true,
});

const say = (line: string) => console.log(`--- ${line}`);
/** What was printed of each thing that failed. */
const failed = new Map<string, readonly string[]>();

/** One static check counts as one test. */
async function check(name: string, ...command: string[]): Promise<Count> {
  const child = Bun.spawn(command, { stdio: ["ignore", "inherit", "inherit"] });
  const passed = (await child.exited) === 0;
  say(`${name}: ${passed ? "passed" : "FAILED"}`);
  return { passed: passed ? 1 : 0, failed: passed ? 0 : 1, skipped: 0 };
}

function testFiles(forKernel: boolean): string[] {
  const files =
    positionals.length > 0 ? positionals : [...new Glob("test/**/*.test.ts").scanSync()];
  return files.filter((file) => file.includes("test/kernel/") === forKernel).toSorted();
}

/** In two processes, as there are CPUs. */
async function unit(): Promise<Count> {
  const files = testFiles(false);
  const halves = [0, 1].map((rest) => files.filter((_, n) => n % 2 === rest));
  return sum(await Promise.all(halves.map((half, n) => unitTests(half, `unit ${n + 1}`))));
}

async function unitTests(files: readonly string[], label: string): Promise<Count> {
  if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  const child = Bun.spawn(
    ["timeout", "-s", "KILL", String(UNIT_SECONDS_MAX), bun, "test", ...files],
    { stdio: ["ignore", "pipe", "pipe"] },
  );
  const [output, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  console.log(`${output}${errors}`.trim());
  failed.set(label, failures(errors));
  return count(errors, await child.exited);
}

async function kernelTests({ label, kernel, files, guest, isBatch }: KernelRun): Promise<Count> {
  const lines = linePrinter(`[${label}] `);
  const deadline = performance.now() + KERNEL_SECONDS_MAX * 1000;
  const results = await runFiles({
    files,
    command: `${bun} test --timeout ${TEST_MILLISECONDS_MAX}`,
    fileSecondsMax: FILE_SECONDS_MAX,
    guest: (options) =>
      runGuest({
        kernel,
        parallel: isLong,
        ...guest,
        ...options,
        timeoutMs: Math.max(deadline - performance.now(), 0) + 60_000,
        env: { ...(isLong && { UBLK_LONG: "1" }), ...(isBatch && { UBLK_TEST_BATCH: "1" }) },
      }),
    onOutput: lines,
  });
  failed.set(label, results.failures);
  return results;
}

/** Whether a run as `kernel` is one on `only`: a host calls its own kernel by any name. */
const isRunOn = (kernel: KernelName, only: KernelName) =>
  onHost ? release().startsWith(`${only}.`) : kernel === only;

function sharedRuns(names: readonly KernelName[], among: readonly string[]): KernelRun[] {
  const files = among.filter((file) => !(file in ALONE));
  return names.map((kernel) => ({ label: kernel, kernel, files }));
}

function aloneRuns(names: readonly KernelName[], among: readonly string[]): KernelRun[] {
  return among.flatMap((file) => {
    const alone = ALONE[file];
    if (alone === undefined) return [];
    const { kernel: only, ...guest } = alone;
    return names
      .filter((kernel) => only === undefined || isRunOn(kernel, only))
      .map((kernel) => {
        const label = `${kernel} ${file.replace(/^.*\/|\.test\.ts$/g, "")}`;
        return { label, kernel, files: [file], guest };
      });
  });
}

/** What runs once more, or with --batch alone, where the kernel has batch commands. */
function batchRuns(all: readonly KernelName[]): KernelRun[] {
  const names = all.filter((kernel) => isRunOn(kernel, BATCH_KERNEL));
  const ownChoice = isLong || values.batch ? BATCH_FILES : BATCH_FILES_SHORT;
  const files = positionals.length === 0 ? ownChoice : values.batch ? testFiles(true) : [];
  const runs = [...sharedRuns(names, files), ...aloneRuns(names, files)];
  return runs.map((run) => ({ ...run, label: `${run.label} --batch`, isBatch: true }));
}

/** Prints whole lines behind a prefix: two guests talk at the same time. */
function linePrinter(prefix: string): (text: string) => void {
  let rest = "";
  return (text) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) console.log(prefix + line);
  };
}

async function kernels(): Promise<Count[]> {
  // Here, because a guest has no network.
  say("the kernel's own test server, to compare with");
  await buildKublk();
  await buildOddProgram();
  const names = KERNELS.filter((name) => values.kernel === undefined || name === values.kernel);
  if (names.length === 0) throw new Error(`--kernel is one of ${KERNELS.join(", ")}`);
  // A host of its own has one kernel only.
  if (onHost) names.length = 1;
  if (values.batch && !names.some((name) => isRunOn(name, BATCH_KERNEL))) {
    throw new Error(`--batch wants --kernel ${BATCH_KERNEL}`);
  }
  const files = values.batch ? [] : testFiles(true);
  const waiting = [...sharedRuns(names, files), ...aloneRuns(names, files), ...batchRuns(names)];
  const counts: Count[] = [];
  const oneByOne = async () => {
    for (let run = waiting.shift(); run !== undefined; run = waiting.shift()) {
      counts.push(await kernelTests(run));
    }
  };
  await Promise.all(Array.from({ length: onHost ? 1 : GUESTS_MAX }, oneByOne));
  return counts;
}

/** Again, and last: whoever sees the end of a long log sees why. */
function sayFailures(): void {
  for (const [label, texts] of failed) {
    for (const [n, text] of texts.entries()) {
      const shown = text.split("\n").slice(n < FAILURES_SHOWN ? -FAILURE_LINES_SHOWN : -1);
      say(`failed in ${label}: ${shown.join("\n")}`);
    }
  }
}

const wants = (part: string) => values.only === undefined || values.only === part;
const counts: Count[] = [];
if (wants("checks") && positionals.length === 0) {
  say("format, types, lint");
  counts.push(await check("format", bun, "fmt", "--check"));
  counts.push(await check("types", bun, "check"));
  counts.push(await check("lint", "node_modules/.bin/oxlint", "--deny-warnings"));
}
if (wants("unit")) {
  say("unit tests");
  counts.push(await unit());
}
if (wants("kernel")) {
  if (!existsSync("dist/ublk-bun")) throw new Error("build first: npm run build");
  say("kernel tests (each kernel boots in a guest; the log of each is checked)");
  counts.push(...(await kernels()));
}
sayFailures();
const all = sum(counts);
console.log(`\n${all.passed} passed, ${all.failed} failed, ${all.skipped} skipped`);
process.exit(all.failed === 0 && all.passed > 0 ? 0 : 1);
