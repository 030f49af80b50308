// The guest's command line: npm run guest -- [options] COMMAND…

import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { quote } from "./boot.ts";
import { GUEST_EXIT, runGuest } from "./guest.ts";
import { KERNELS } from "./kernel.ts";

const USAGE = `Runs COMMAND as root in a guest whose kernel has the ublk driver, over this machine's
own files (changes stay in the guest), and ends with COMMAND's exit status.

npm run guest -- [options] COMMAND…      one word is shell text, several are a command and its words

  --kernel ${KERNELS.join("|")}        which kernel (7.3)
  --memory MB              (4096)
  --cpus N                 (2)
  --parallel               its CPUs run at the same time, not in turns; costs twice the host's time
  --own-clock              its clock counts its instructions: a busy host does not make it late
  --timeout SECONDS        kill the guest after this long; exit 124 (600)
  --share FOLDER           the guest may write here, at the same path
  --kernel-log FILE        keep the kernel log
  --no-driver              do not load ublk_drv

Exit 98: the guest died. 99: its kernel reported a problem, printed at the end.
UBLK_KERNEL=vmlinuz UBLK_MODULES=…/lib/modules/VERSION boots a kernel of your own;
UBLK_TEST=host runs COMMAND on this host.
`;

const OPTIONS = {
  kernel: { type: "string", default: "7.3" },
  memory: { type: "string", default: "4096" },
  cpus: { type: "string", default: "2" },
  parallel: { type: "boolean", default: false },
  "own-clock": { type: "boolean", default: false },
  timeout: { type: "string", default: "600" },
  share: { type: "string" },
  "kernel-log": { type: "string" },
  "no-driver": { type: "boolean", default: false },
  help: { type: "boolean", short: "h", default: false },
} as const;
/** The words that take no value. */
const FLAGS = new Set(
  Object.entries(OPTIONS).flatMap(([name, { type }]) => (type === "boolean" ? [`--${name}`] : [])),
).add("-h");

const words = splitWords(process.argv.slice(2));
const values = parsed(words.options);
const kernel = KERNELS.find((name) => name === values.kernel);
if (values.help || kernel === undefined || words.command.length === 0) {
  process.stderr.write(USAGE);
  process.exit(values.help ? 0 : 2);
}

const result = await runGuest({
  kernel,
  command: shellText(words.command),
  timeoutMs: positive(values.timeout) * 1000,
  memoryMb: positive(values.memory),
  cpus: positive(values.cpus),
  parallel: values.parallel,
  ownClock: values["own-clock"],
  ...(values.share === undefined ? {} : { share: values.share }),
  ...(values["no-driver"] ? { driver: false } : {}),
  onOutput: (text) => process.stdout.write(text),
}).catch((error: Error) => {
  warn(error.message);
  process.exit(1);
});
const log = values["kernel-log"];
if (log !== undefined) writeFileSync(log, result.kernelLog);
if (result.exitCode === GUEST_EXIT.timedOut) warn(`no end after ${values.timeout} s: killed`);
if (result.exitCode === GUEST_EXIT.died) {
  warn("the guest died before the command ended; its last words:");
  process.stderr.write(`${result.kernelLog.trimEnd().split("\n").slice(-15).join("\n")}\n`);
}
if (result.kernelProblems.length > 0) {
  warn(`the kernel reported ${result.kernelProblems.length} problem(s):`);
  process.stderr.write(`${result.kernelProblems.join("\n")}\n`);
}
process.exit(result.exitCode);

function warn(line: string): void {
  process.stderr.write(`guest (${values.kernel}): ${line}\n`);
}

function shellText(command: readonly string[]): string {
  const [only] = command;
  return command.length === 1 && only !== undefined ? only : command.map(quote).join(" ");
}

function parsed(options: string[]) {
  try {
    return parseArgs({ args: options, options: OPTIONS }).values;
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`);
    process.exit(2);
  }
}

function positive(text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number > 0) return number;
  process.stderr.write(`"${text}" is not a positive whole number\n`);
  process.exit(2);
}

/** Our options end at the first word that is none, so that COMMAND keeps its own. */
function splitWords(all: readonly string[]): { options: string[]; command: string[] } {
  const start = all[0] === "--" ? 1 : 0;
  let end = start;
  for (let word = all[end]; word?.startsWith("-") && word !== "--"; word = all[end]) {
    end += word.includes("=") || FLAGS.has(word) ? 1 : 2;
  }
  return { options: all.slice(start, end), command: all.slice(all[end] === "--" ? end + 1 : end) };
}
