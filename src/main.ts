// Entry of the program. What needs nothing but the program itself is answered before the rest of it
// is even loaded.

import packageJson from "../package.json" with { type: "json" };
import { AHEAD, DAEMON_COMMAND } from "./device/job.ts";
import { startWorkers } from "./spawn.ts";

const words = process.argv.slice(2);

if (words[0] === "--version" || words[0] === "-V") {
  // Bun's own: process.stdout, or even node:fs, would cost more than all the rest.
  // oxlint-disable-next-line no-console
  console.log(packageJson.version);
  process.exit();
}

// What a recovery waits for longest begins before everything else: a process, and in it the threads.
if (words[0] === DAEMON_COMMAND && words[1] === AHEAD) startWorkers(Number(words[2]));
const ahead = words[0] === "recover" ? await import("./device/ahead.ts") : undefined;
ahead?.startAhead(words.slice(1));

const { runToExitCode } = await import("./cli/run.ts");
const exitCode = await runToExitCode(words);
await ahead?.takeAhead()?.[Symbol.asyncDispose]();
process.exit(exitCode);
