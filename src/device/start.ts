// Starts the process that becomes a daemon, with what it inherits: its log, a pipe to report by, a lock.

import { closeSync, fstatSync } from "node:fs";

import { UblkError } from "../errors.ts";
import { O, pipe2 } from "../ffi/libc.ts";
import { openToAppend } from "./append.ts";
import { DAEMON_COMMAND } from "./job.ts";
import { CLEAN_ENV, DAEMON_ARGV0, selfCommand } from "./self.ts";
import type { DeviceLock } from "./store.ts";

export interface StartOptions {
  /** The file that its stdout and stderr go to; "" in the foreground. */
  readonly log: string;
  readonly lock: DeviceLock | undefined;
  /** Another version of this program. */
  readonly program?: string;
  /** It has a stdin to be told something later. */
  readonly waits?: boolean;
  /** Variables that its target needs. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A daemon that loads. */
export interface Started {
  readonly process: Bun.Subprocess<"ignore" | "pipe">;
  /** Where its reports can be read. */
  readonly reports: number;
  /** Its log, open for reading whatever its name becomes; -1 in the foreground. */
  readonly log: number;
  /** How much of the log was there before it. */
  readonly logBegan: number;
}

/** `words`: what the hidden subcommand is given. */
export function startDaemon(
  words: readonly string[],
  { log, lock, program, waits = false, env = {} }: StartOptions,
): Started {
  const ends = new Int32Array(2);
  if (pipe2(ends, O.CLOEXEC) < 0) throw new UblkError("Cannot make a pipe to the daemon");
  const [reports = -1, reportTo = -1] = ends;
  const logFd = log === "" ? -1 : openToAppend(log);
  const output = logFd < 0 ? "inherit" : logFd;
  const logBegan = logFd < 0 ? 0 : fstatSync(logFd).size;
  try {
    const child = Bun.spawn(selfCommand([DAEMON_COMMAND, ...words], program), {
      argv0: DAEMON_ARGV0,
      detached: true,
      stdio: [waits ? "pipe" : "ignore", output, output, reportTo, ...(lock ? [lock.fd] : [])],
      env: { ...CLEAN_ENV, ...env },
      cwd: "/",
    });
    return { process: child, reports, log: logFd, logBegan };
  } catch (error) {
    // Whoever starts one after the other must not run out of descriptors.
    for (const fd of [reports, logFd]) if (fd >= 0) closeSync(fd);
    throw error;
  } finally {
    closeSync(reportTo);
  }
}
