// The daemon's word to its launcher, through a pipe: notes, and in the end whether it serves, or why not.

import { writeSync } from "../builtin.ts";
import { EXIT, messageOf, UblkError } from "../errors.ts";
import { close } from "../ffi/libc.ts";
import { type Report, REPORT_FD } from "./job.ts";

export class Reporter {
  #isOver = false;

  /** Nothing is said after `live` or `error`. */
  say(report: Report): void {
    if (this.#isOver) return;
    this.#isOver = report.kind === "live" || report.kind === "error";
    try {
      writeSync(REPORT_FD, `${JSON.stringify(report)}\n`);
    } catch {
      // The launcher is gone: its daemon goes on without it.
    }
    if (this.#isOver) close(REPORT_FD);
  }

  /** `textOf`: how an error is told that nobody has foreseen. */
  sayError(error: unknown, textOf = messageOf): void {
    const known = error instanceof UblkError ? error : undefined;
    this.say({
      kind: "error",
      message: known?.message ?? textOf(error),
      ...(known?.hint === undefined ? {} : { hint: known.hint }),
      exitCode: known?.exitCode ?? EXIT.failed,
    });
  }
}
