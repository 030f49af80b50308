// A new target's folder: what `ublk-bun init` writes into it.

import { existsSync, join, mkdirSync, readdirSync, writeFileSync } from "../builtin.ts";
import { UblkError } from "../errors.ts";
import target from "./template/disk.ts" with { type: "text" };
import { apiTypes } from "./types.ts";

const TEST = `// The checks of ublk-bun on this target: neither root nor a driver is needed.
//
//   ./test.sh            UBLK_BUN=/path/to/ublk-bun ./test.sh
`;

const TEST_SCRIPT = `#!/bin/sh
${TEST.replaceAll("//", "#")}set -eu
cd "$(dirname "$0")"
blocks=$(mktemp)
trap 'rm -f "$blocks"' EXIT
"\${UBLK_BUN:-ublk-bun}" check ./disk.ts --param path="$blocks" --param size=1MiB "$@"
`;

const TSCONFIG = `{
  "compilerOptions": {
    "target": "ESNext",
    "module": "preserve",
    "moduleDetection": "force",
    "lib": ["ESNext"],
    "types": ["bun-types"],
    "noEmit": true,
    "strict": true,
    "allowImportingTsExtensions": true,
    "skipLibCheck": true
  },
  "include": ["*.ts"]
}
`;

const PACKAGE = `{
  "private": true,
  "type": "module",
  "scripts": { "test": "./test.sh" },
  "devDependencies": { "bun-types": "^1.4.5" }
}
`;

/** Name, text, mode. */
const FILES: readonly (readonly [string, string, number])[] = [
  ["disk.ts", target as unknown as string, 0o644],
  ["test.sh", TEST_SCRIPT, 0o755],
  ["ublk-bun.d.ts", apiTypes, 0o644],
  ["tsconfig.json", TSCONFIG, 0o644],
  ["package.json", PACKAGE, 0o644],
];

/** Writes a new target into a new or empty folder; returns the names of its files. Throws UblkError. */
export function initFolder(folder: string): string[] {
  if (existsSync(folder) && readdirSync(folder).length > 0) {
    throw new UblkError(`${folder} is there, and not empty`, {
      hint: "name a new folder; nothing was written",
    });
  }
  mkdirSync(folder, { recursive: true });
  for (const [name, text, mode] of FILES) {
    writeFileSync(join(folder, name), text, { mode, flag: "wx" });
  }
  return FILES.map(([name]) => name);
}
