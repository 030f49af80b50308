// Entry of the program: runs the command line; an error becomes one line, a hint and an exit code.

import { run } from "./cli/run.ts";
import { EXIT, UblkError } from "./errors.ts";
import { log } from "./log.ts";

function report(error: unknown): number {
  if (error instanceof UblkError) {
    log.error(error.hint === undefined ? error.message : `${error.message} (${error.hint})`);
    return error.exitCode;
  }
  // Not foreseen: the stack is what whoever mends it needs.
  log.error(error);
  return EXIT.failed;
}

try {
  await run(process.argv.slice(2));
  process.exit();
} catch (error) {
  process.exit(report(error));
}
