// What a command came to: an error becomes one line, a hint and an exit code.

import { EXIT, UblkError } from "../errors.ts";
import { log } from "../log.ts";

/** Runs `command`; the exit code of its error, or the one that it has set. */
export async function exitCodeOf(command: () => Promise<void>): Promise<number> {
  try {
    await command();
    return Number(process.exitCode ?? EXIT.ok);
  } catch (error) {
    if (error instanceof UblkError) {
      log.error(error.hint === undefined ? error.message : `${error.message} (${error.hint})`);
      return error.exitCode;
    }
    // Not foreseen: the stack is what whoever mends it needs.
    log.error(error);
    return EXIT.failed;
  }
}
