// Kernel test files in a guest, one after the other; in a new guest after one that left this one spoilt:
// a device or a record that stays would fail every file behind it, and hide what went wrong first.

import { type Count, count, failures, sum } from "./count.ts";
import { GUEST_EXIT, type GuestOptions, type GuestResult } from "./guest/guest.ts";

/** How a guest ends that has a device left, or whose file was killed. */
const SPOILT = 97;
/** Where each file that was begun has ended. */
const COMPLETE: readonly number[] = [0, SPOILT, GUEST_EXIT.kernelProblems];
const ENDED = /^=== (\S+) ended with (\d+)$/;

export interface FileRun {
  readonly files: readonly string[];
  /** What runs one file; its words come first. */
  readonly command: string;
  readonly fileSecondsMax: number;
  /** Boots a guest, runs the command in it. */
  readonly guest: (options: Pick<GuestOptions, "command" | "onOutput">) => Promise<GuestResult>;
  readonly onOutput: (text: string) => void;
}

export interface FileResults extends Count {
  /** Of each thing that failed, what was printed of it. */
  readonly failures: readonly string[];
}

/** Runs every file once, in as many guests as that takes. */
export async function runFiles(run: FileRun): Promise<FileResults> {
  const counts: Count[] = [];
  const texts: string[] = [];
  let rest = run.files;
  while (rest.length > 0) {
    const result = await run.guest({ command: script(run, rest), onOutput: run.onOutput });
    const ended = endedFiles(result.output);
    for (const { name, output, exitCode } of ended) {
      const found = count(output, exitCode);
      counts.push(found);
      texts.push(...failures(output));
      if (found.failed > failures(output).length) texts.push(`${name} ended with ${exitCode}`);
    }
    rest = rest.slice(ended.length);
    const problems = result.kernelProblems.map((line) => `the kernel's log says: ${line}`);
    if (result.exitCode === GUEST_EXIT.timedOut) {
      problems.push(`no time was left for ${rest.join(" ")}`);
      rest = [];
    }
    // A guest that ended in the middle of a file, of which the next is not to suffer.
    else if (ended.length === 0 || !COMPLETE.includes(result.exitCode)) {
      problems.push(`${rest[0] ?? "the end"}: the guest ended with ${result.exitCode}`);
      rest = rest.slice(1);
    }
    texts.push(...problems);
    counts.push({ passed: 0, failed: problems.length > 0 ? 1 : 0, skipped: 0 });
  }
  return { ...sum(counts), failures: texts };
}

function script({ command, fileSecondsMax }: FileRun, files: readonly string[]): string {
  return `for file in ${files.join(" ")}; do
  timeout -s KILL ${fileSecondsMax} ${command} "$file" 2>&1
  code=$?
  echo "=== $file ended with $code"
  left=$(find /sys/class/ublk-char /run/ublk-bun -mindepth 1 ! -name 'events.ndjson*' 2>/dev/null)
  [ $code -lt 128 ] && [ -z "$left" ] || exit ${SPOILT}
done`;
}

interface EndedFile {
  readonly name: string;
  readonly output: string;
  readonly exitCode: number;
}

/** What each file that has come to its end has printed. */
export function endedFiles(output: string): EndedFile[] {
  const files: EndedFile[] = [];
  let lines: string[] = [];
  for (const line of output.split(/\r?\n/)) {
    const [, name, exitCode] = line.match(ENDED) ?? [];
    if (name === undefined) lines.push(line);
    else {
      files.push({ name, output: lines.join("\n"), exitCode: Number(exitCode) });
      lines = [];
    }
  }
  return files;
}
