// `npm test`: static checks, unit tests, then the kernel tests in a guest of each kernel, side by side;
// the kernel's own scripts in one more, as soon as one of the two has ended.
// Ends with one line that counts them all. UBLK_LONG=1 is `npm run test:long`: see long.ts.
//
//   bun test/support/suite.ts [--only checks|unit|kernel] [--kernel 6.12|7.3] [FILE…]

import { existsSync } from "node:fs";
import { release } from "node:os";
import { parseArgs } from "node:util";

import { Glob } from "bun";

import { type GuestOptions, type GuestResult, runGuest } from "./guest/guest.ts";
import { type KernelName, KERNELS } from "./guest/kernel.ts";
import { isLong } from "./long.ts";
import { buildKublk } from "./peer.ts";
import { buildOddProgram } from "./torture/build.ts";

const UNIT_SECONDS_MAX = 600;
const KERNEL_SECONDS_MAX = isLong ? 10_800 : 3900;
const TEST_MILLISECONDS_MAX = 300_000;

interface Count {
  passed: number;
  failed: number;
  skipped: number;
}

/** A run of `bun test` under one kernel. */
interface KernelRun {
  readonly label: string;
  readonly kernel: KernelName;
  readonly files: readonly string[];
  /** What its guest has of its own. */
  readonly guest?: Pick<GuestOptions, "cpus" | "ownClock">;
}

interface Alone {
  /** The only kernel that it is about. */
  readonly kernel?: KernelName;
  readonly cpus?: number;
  readonly ownClock?: boolean;
}

/**
 * Files that get a guest of their own when one of the others has ended; three guests would be too many at
 * once. The kernel's scripts know the time of real machines only, and one of them to the second; a disk has no
 * more queues than there are CPUs, and four of them would slow down whatever needs two.
 */
const ALONE: Readonly<Record<string, Alone>> = {
  "test/kernel/selftests.test.ts": { kernel: "7.3" },
  "test/kernel/selftests-timed.test.ts": { kernel: "7.3", ownClock: true },
  "test/kernel/verified.test.ts": { cpus: 4 },
};

const onHost = process.env["UBLK_TEST"] === "host";
const bun = "node_modules/.bin/bun";
const { values, positionals } = parseArgs({
  options: { only: { type: "string" }, kernel: { type: "string" } },
  allowPositionals: true,
});

const say = (line: string) => console.log(`--- ${line}`);

/** One static check counts as one test. */
async function check(name: string, ...command: string[]): Promise<Count> {
  const child = Bun.spawn(command, { stdio: ["ignore", "inherit", "inherit"] });
  const passed = (await child.exited) === 0;
  say(`${name}: ${passed ? "passed" : "FAILED"}`);
  return { passed: passed ? 1 : 0, failed: passed ? 0 : 1, skipped: 0 };
}

/** What a run of `bun test` printed, counted; one that broke off counts as a failure more. */
function count(output: string, exitCode: number): Count {
  const number = (word: string) =>
    [...output.matchAll(new RegExp(`^\\s*(\\d+) ${word}\\s*$`, "gm"))]
      .map((match) => Number(match[1]))
      .reduce((sum, n) => sum + n, 0);
  const found = { passed: number("pass"), failed: number("fail"), skipped: number("skip") };
  const brokeOff = (exitCode !== 0 && found.failed === 0) || found.passed + found.failed === 0;
  return brokeOff ? { ...found, failed: found.failed + 1 } : found;
}

function testFiles(forKernel: boolean): string[] {
  const files =
    positionals.length > 0 ? positionals : [...new Glob("test/**/*.test.ts").scanSync()];
  return files.filter((file) => file.includes("test/kernel/") === forKernel).toSorted();
}

async function unit(): Promise<Count> {
  const files = testFiles(false);
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
  return count(errors, await child.exited);
}

async function kernelTests({ label, kernel, files, guest }: KernelRun): Promise<Count> {
  if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  const lines = linePrinter(`[${label}] `);
  const result = await runGuest({
    kernel,
    ...guest,
    timeoutMs: (KERNEL_SECONDS_MAX + 60) * 1000,
    env: isLong ? { UBLK_LONG: "1" } : {},
    command:
      `timeout -s KILL ${KERNEL_SECONDS_MAX} ${bun} test ` +
      `--timeout ${TEST_MILLISECONDS_MAX} ${files.join(" ")} 2>&1`,
    onOutput: lines,
  });
  for (const line of result.kernelProblems) say(`${label}: the kernel's log says: ${line}`);
  return count(result.output, exitCodeOf(result));
}

function sharedRuns(names: readonly KernelName[]): KernelRun[] {
  const files = testFiles(true).filter((file) => !(file in ALONE));
  return names.map((kernel) => ({ label: kernel, kernel, files }));
}

function aloneRuns(names: readonly KernelName[]): KernelRun[] {
  return testFiles(true).flatMap((file) => {
    const alone = ALONE[file];
    if (alone === undefined) return [];
    const { kernel: only, ...guest } = alone;
    const isWanted = (kernel: KernelName) =>
      only === undefined || (onHost ? release().startsWith(`${only}.`) : kernel === only);
    return names.filter(isWanted).map((kernel) => {
      const label = `${kernel} ${file.replace(/^.*\/|\.test\.ts$/g, "")}`;
      return { label, kernel, files: [file], guest };
    });
  });
}

const exitCodeOf = ({ exitCode, kernelProblems }: GuestResult) =>
  kernelProblems.length > 0 ? 99 : exitCode;

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
  const shared = sharedRuns(names).map(kernelTests);
  await Promise.race(shared);
  const counts: Count[] = [];
  for (const run of aloneRuns(names)) counts.push(await kernelTests(run));
  return [...(await Promise.all(shared)), ...counts];
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
const sum = (key: keyof Count) => counts.reduce((total, part) => total + part[key], 0);
console.log(`\n${sum("passed")} passed, ${sum("failed")} failed, ${sum("skipped")} skipped`);
process.exit(sum("failed") === 0 && sum("passed") > 0 ? 0 : 1);
