// Builds dist/ublk-bun: entry and Workers in one executable, liburing inside.
//
//   bun build.ts [--liburing PATH]     PATH: a liburing.so.2 to embed; default: Debian's, from the cache

import { copyFileSync, existsSync, mkdirSync } from "node:fs";
import { parseArgs } from "node:util";

import { liburingSo } from "./test/support/debian.ts";

const LIBURING = "dist/liburing.so.2";
const OUT = process.env["UBLK_OUT"] ?? "dist/ublk-bun";

const { values } = parseArgs({ options: { liburing: { type: "string" } } });
mkdirSync("dist", { recursive: true });
if (values.liburing !== undefined || !existsSync(LIBURING)) {
  copyFileSync(values.liburing ?? (await liburingSo()), LIBURING);
}

const built = await Bun.build({
  entrypoints: ["src/main.ts", "src/worker.ts", "src/script-worker.ts", "src/load-watch.ts"],
  minify: true,
  bytecode: true,
  format: "esm",
  // In chunks that are loaded when they are needed: `--version` and `help` start three times as fast.
  splitting: true,
  compile: {
    outfile: OUT,
    // Most of a start runs once: compiling it takes longer than it saves.
    jitPolicy: 10,
    // A bunfig.toml or .env in the caller's folder must not run code or change variables as root.
    autoloadBunfig: false,
    autoloadDotenv: false,
    // A target file's packages say in theirs where they begin.
    autoloadPackageJson: true,
  },
});
for (const message of built.logs) console.error(message);
if (!built.success) process.exit(1);
console.error(`built ${OUT}`);
