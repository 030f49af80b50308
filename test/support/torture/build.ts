// Compiles the odd program beside the real one; on the host, because a guest would take long.

import { join, resolve } from "node:path";

const repository = resolve(import.meta.dir, "../../..");

/** The real program, and odd targets, and places to die at. */
export const ODD_PROGRAM = join(repository, "dist/ublk-bun-odd");

export async function buildOddProgram(): Promise<void> {
  const folder = "test/support/torture/program";
  const built = await Bun.build({
    entrypoints: [join(repository, `${folder}/main.ts`), join(repository, `${folder}/worker.ts`)],
    bytecode: true,
    format: "esm",
    splitting: true,
    compile: { outfile: ODD_PROGRAM, autoloadBunfig: false, autoloadDotenv: false },
  });
  if (!built.success) throw new Error(`Cannot build ${ODD_PROGRAM}:\n${built.logs.join("\n")}`);
}
