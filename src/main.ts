// Entry of the program. What needs nothing but the program itself is answered before the rest of it
// is even loaded.

import packageJson from "../package.json" with { type: "json" };

const words = process.argv.slice(2);

if (words[0] === "--version" || words[0] === "-V") {
  // Bun's own: process.stdout, or even node:fs, would cost more than all the rest.
  // oxlint-disable-next-line no-console
  console.log(packageJson.version);
  process.exit();
}

// Taken before a person's file is loaded, which may not end the process (script/guard.ts).
const exit = process.exit.bind(process);
const isHidden = words[0]?.startsWith("__");
const { runToExitCode } = await (isHidden ? import("./cli/hidden.ts") : import("./cli/run.ts"));
exit(await runToExitCode(words));
