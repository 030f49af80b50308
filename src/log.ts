// What the program says to people, all of it on stderr: stdout is for data.

// The core alone: colours, boxes and what finds out about terminals would cost a seventh of every start.
import { type ConsolaReporter, createConsola } from "consola/core";

import { stackOf } from "./errors.ts";
import { tryWrite } from "./write.ts";

const text = (args: readonly unknown[]) => args.map(stackOf).join(" ");

/** At a prompt: what the person asked for needs no date. */
const promptReporter: ConsolaReporter = {
  log: ({ type, args }) => {
    const prefix = type === "warn" ? "ublk-bun: warning: " : "ublk-bun: ";
    tryWrite(2, `${prefix}${text(args)}\n`);
  },
};

/** In a daemon's log: when, how grave, what. */
const daemonReporter: ConsolaReporter = {
  log: ({ type, args, date }) => {
    tryWrite(2, `${date.toISOString()} ${type} ${text(args)}\n`);
  },
};

export const log = createConsola({ reporters: [promptReporter] });

/** From now on lines carry date and grade. */
export function logAsDaemon(): void {
  log.setReporters([daemonReporter]);
}
