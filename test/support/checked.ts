// A target under check: a right one over a file, of which a test replaces what is to be wrong.

import { expect } from "bun:test";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import { checks } from "../../src/check/checks.ts";
import { type Result, runChecks } from "../../src/check/run.ts";
import { CLEAN_ENV } from "../../src/device/self.ts";

export const SIZE_BYTES = 128 * 1024;
const main = resolve(import.meta.dir, "../../src/main.ts");

/**
 * Statements by the function that they are in, and what the disk is beside them. `timeoutMs` and
 * `fileBytes` are the check's.
 */
export type Parts = Readonly<Record<string, string>>;

/** A right target over a file; `changed` replaces what is wrong in one. */
function source(changed: Parts): string {
  const parts: Record<string, string> = {
    perQueue: "false",
    before: "",
    state: "",
    shape: "",
    sizeBytes: String(SIZE_BYTES),
    read: "readSync(fd, into, 0, into.length, offset);",
    write: "writeSync(fd, from, 0, from.length, offset);",
    flush: "fsyncSync(fd);",
    discard: "writeSync(fd, new Uint8Array(length), 0, length, offset);",
    writeZeroes: "writeSync(fd, new Uint8Array(length), 0, length, offset);",
    close: "closeSync(fd);",
    ...changed,
  };
  return `import { appendFileSync, closeSync, fsyncSync, openSync, readSync, statSync, writeSync } from "node:fs";
import { BlockError, defineTarget } from "ublk-bun";
${parts["before"]}
const sleep = (ms: number) => new Promise((done) => setTimeout(done, ms));
export default defineTarget({
  params: { path: { type: "path", required: true } },
  perQueue: ${parts["perQueue"]},
  async open({ path }) {
    const fd = openSync(path, "r+");
    ${parts["state"]}
    return {
      sizeBytes: ${parts["sizeBytes"]}, ${parts["shape"]}
      async read(offset, into) { ${parts["read"]} },
      async write(offset, from, { fua }) { ${parts["write"]} },
      async flush() { ${parts["flush"]} },
      async discard(offset, length) { ${parts["discard"]} },
      async writeZeroes(offset, length, { mayUnmap }) { ${parts["writeZeroes"]} },
      async close() { ${parts["close"]} },
    };
  },
});
`;
}

interface Options {
  readonly isRepeatable?: boolean;
  readonly instances?: number;
  readonly ioTimeoutMs?: number;
  /** Of the file behind the disk. */
  readonly fileBytes?: number;
  /** Sees the file behind the disk before it is removed. */
  readonly after?: (path: string) => void;
}

/** What the checks whose names begin so say of the target in this text; its parameter is a file. */
export async function resultsOf(
  text: string,
  names: readonly string[],
  options: Options = {},
): Promise<Result[]> {
  const folder = mkdtempSync(join(tmpdir(), "ublk-bun-check-"));
  const [file, path] = [join(folder, "disk.ts"), join(folder, "blocks")];
  writeFileSync(file, text);
  writeFileSync(path, "");
  truncateSync(path, options.fileBytes ?? SIZE_BYTES);
  const which = checks.filter(({ name }) => names.some((each) => name.startsWith(each)));
  expect(which.length).toBe(names.length);
  const found: Result[] = [];
  try {
    const subject = { file, words: [`path=${path}`], identity: "0123456789abcdef" };
    const command = [process.execPath, main, "__check-host"];
    const { isRepeatable = true, instances = 1, ioTimeoutMs = 30_000 } = options;
    const job = { subject, instances, isRepeatable, command, env: CLEAN_ENV, ioTimeoutMs, seed: 1 };
    await runChecks(job, (result) => found.push(result), which);
    options.after?.(path);
  } finally {
    rmSync(folder, { recursive: true });
  }
  return found;
}

/** The same of a target made of these parts. */
export function results(
  changed: Parts,
  names: readonly string[],
  options: Options = {},
): Promise<Result[]> {
  return resultsOf(source(changed), names, {
    instances: changed["perQueue"] === "true" ? 2 : 1,
    ...(changed["timeoutMs"] !== undefined && { ioTimeoutMs: Number(changed["timeoutMs"]) }),
    ...(changed["fileBytes"] !== undefined && { fileBytes: Number(changed["fileBytes"]) }),
    ...options,
  });
}

/** What is wrong · its parts · the check that fails · what it says. */
export type Broken = readonly [what: string, parts: Parts, check: string, words: string];

/** A target made of these parts fails that check in these words. */
export async function expectBroken([, parts, name, words]: Broken): Promise<void> {
  const found = await results(parts, [name]);
  const result = found.find((each) => each.name.startsWith(name));
  expect(result?.outcome, JSON.stringify(found)).toBe("failed");
  expect(result!.detail).toContain(words);
}
