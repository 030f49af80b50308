// Asks gcc what it makes of the kernel's headers: values of expressions, macros, preprocessed text.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** gcc with one folder of kernel headers and a few headers of it. */
export class Gcc {
  readonly #flags: readonly string[];
  readonly #source: string;

  private constructor(flags: readonly string[], source: string) {
    this.#flags = flags;
    this.#source = source;
  }

  /**
   * @param include folder that holds linux/, with the machine's asm/ under its multiarch name.
   * @param headers such as `linux/ublk_cmd.h`, in order.
   */
  static async open(include: string, headers: readonly string[]): Promise<Gcc> {
    const machine = (await run(["gcc", "-print-multiarch"])).trim();
    const flags = ["-isystem", include, "-isystem", join(include, machine)];
    return new Gcc(flags, headers.map((header) => `#include <${header}>\n`).join(""));
  }

  /** The headers after preprocessing. */
  preprocess(): Promise<string> {
    return run(["gcc", ...this.#flags, "-E", "-P", "-"], this.#source);
  }

  /** The bodies of all macros without parameters, by name. */
  async macros(): Promise<Map<string, string>> {
    const text = await run(["gcc", ...this.#flags, "-E", "-dM", "-"], this.#source);
    const lines = text.matchAll(/^#define (\w+)(?: (.*))?$/gm);
    return new Map(Array.from(lines, ([, name = "", body = ""]) => [name, body]));
  }

  /**
   * The value of each constant expression of C, as 64 bits without sign.
   * @throws Error with gcc's own words if an expression does not compile.
   */
  async evaluate(expressions: readonly string[]): Promise<Map<string, bigint>> {
    const table = expressions.map((expression) => `  (unsigned long long)(${expression}),\n`);
    const program = `#include <stdio.h>\n#include <stddef.h>\n${this.#source}
static const unsigned long long values[] = {\n${table.join("")}};
int main(void) {
  for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) printf("%llu\\n", values[i]);
}\n`;
    const folder = await mkdtemp(join(tmpdir(), "ublk-bun-gcc-"));
    try {
      const binary = join(folder, "a.out");
      await run(["gcc", ...this.#flags, "-x", "c", "-", "-o", binary], program);
      const values = (await run([binary])).trimEnd().split("\n");
      return new Map(expressions.map((expression, i) => [expression, BigInt(values[i] ?? "")]));
    } finally {
      await rm(folder, { recursive: true });
    }
  }
}

async function run(command: string[], input = ""): Promise<string> {
  await using child = Bun.spawn(command, {
    stdin: new Blob([input]),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [output, errors, status] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  if (status !== 0) throw new Error(`${command[0]} failed:\n${errors}`);
  return output;
}
