// How the program calls itself: without what understands the words of a person, which would cost a server
// a tenth of its start.

import type { HostJob } from "../check/protocol.ts";
import type { Job } from "../device/job.ts";
import { UsageError } from "../errors.ts";
// Some of these replace process.exit.
// oxlint-disable-next-line no-unassigned-import
import "../script/native-exit.ts";
import { spawnAhead } from "../spawn.ts";
import { exitCodeOf } from "./outcome.ts";

type Words = readonly string[];

const hidden: Readonly<Record<string, (words: Words) => Promise<void>>> = {
  /** Serves one device; started by add and recover. */
  __daemon: async ([words = ""]) => {
    const job = JSON.parse(words) as Job;
    spawnAhead(job.threadsAhead ?? 0);
    const { runDaemon } = await import("../device/daemon.ts");
    process.exitCode = await runDaemon(job);
  },

  /** Sends what may hold its process in the kernel for ever. */
  __send: async (words) => {
    const { runHelper } = await import("../device/sender.ts");
    await runHelper(words);
  },

  /** Gives a disk a short io_timeout. */
  "__io-timeout": async ([id]) => {
    const { setIoTimeout } = await import("../device/old-kernel.ts");
    setIoTimeout(Number(id));
  },

  /** Holds a target under check. */
  "__check-host": async ([job = ""]) => {
    const { hostTarget } = await import("../check/host.ts");
    // What a target does to a process it does to this one, and whoever checks it tells.
    process.exit = process.exit.bind(process);
    await hostTarget(JSON.parse(job) as HostJob);
  },
};

/** `words` are those after the program's name; the exit code. */
export function runToExitCode([name = "", ...words]: Words): Promise<number> {
  return exitCodeOf(async () => {
    const run = Object.hasOwn(hidden, name) ? hidden[name] : undefined;
    if (run === undefined) throw new UsageError(`Unknown command "${name}"`, "see: ublk-bun help");
    await run(words);
  });
}
