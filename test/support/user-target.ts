// A folder of a person who writes a target: nothing of the repository is near it.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { type Outcome, program, run, TestDevice } from "./program.ts";

export class UserFolder implements Disposable {
  readonly path = mkdtempSync(join(tmpdir(), "user-"));

  /** Writes a file; its path. */
  write(name: string, text: string): string {
    writeFileSync(join(this.path, name), text);
    return join(this.path, name);
  }

  /**
   * Writes a target of 24 MiB whose functions are `members`, over `bytes`, its memory; `top` comes before
   * `defineTarget`.
   */
  target(name: string, members: string, top = "", options = ""): string {
    return this.write(
      name,
      `import { BlockError, defineTarget } from "ublk-bun";
const bytes = new Uint8Array(24 * 1024 * 1024);
${top}
export default defineTarget({ ${options}
  open: () => ({
    sizeBytes: bytes.length,
    read: (offset: number, into: Uint8Array) => into.set(bytes.subarray(offset, offset + into.length)),
    write: (offset: number, from: Uint8Array) => bytes.set(from, offset),
    ${members}
  }),
});
`,
    );
  }

  /** `ublk-bun WORD…` in this folder. */
  ublk(...words: string[]): Promise<Outcome> {
    return run([program, ...words], { cwd: this.path });
  }

  /** `ublk-bun add WORD…` in this folder. */
  async add(...words: string[]): Promise<TestDevice> {
    const { exitCode, stdout, stderr } = await this.ublk("add", ...words, "--json");
    if (exitCode !== 0) throw new Error(`add ${words.join(" ")}: exit ${exitCode}\n${stderr}`);
    return new TestDevice((JSON.parse(stdout) as { id: number }).id);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true });
  }
}
