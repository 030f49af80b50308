// Runs a command on this very host, for machines that have the ublk driver and need no guest.

import { existsSync, writeFileSync } from "node:fs";

import { run } from "../run.ts";
import { watch } from "./watch.ts";
import type { WatchOptions } from "./watch.ts";

/** What a run on the host needs of a guest's options. */
export interface HostOptions extends WatchOptions {
  readonly command: string;
  readonly driver?: boolean;
}

/**
 * Runs `command` here, as root. The kernel log is what dmesg gained meanwhile, from whatever cause.
 * Throws when this host cannot: not root, or no /dev/ublk-control.
 */
export async function runOnHost(
  options: HostOptions,
): Promise<{ exitCode: number; output: string; kernelLog: string }> {
  if (process.getuid?.() !== 0) throw new Error("UBLK_TEST=host needs root");
  if (options.driver !== false && !existsSync("/dev/ublk-control")) {
    throw new Error('UBLK_TEST=host needs "/dev/ublk-control" (run: modprobe ublk_drv)');
  }
  const mark = `ublk-bun test ${crypto.randomUUID()}`;
  writeFileSync("/dev/kmsg", `${mark}\n`);
  const ended = await watch(["sh", "-c", options.command], options);
  const log = await run(["dmesg"]);
  const kernelLog = log.slice(log.indexOf(mark)).split("\n").slice(1).join("\n");
  return {
    exitCode: ended.isTimedOut ? 124 : ended.exitCode,
    output: ended.output,
    kernelLog,
  };
}
