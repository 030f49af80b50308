// The standbys of a device, found by their command lines: whoever stops the disk is not who started them.

import { readFileSync } from "../builtin.ts";
import { holdsChar } from "./holders.ts";
import { DAEMON_COMMAND, type Job } from "./job.ts";
import { peek, processIds } from "./processes.ts";
import { isDaemon } from "./self.ts";

/** Processes that wait for their moment to serve device `id` of this run folder. */
export function standbysOf(id: number, runDir: string): number[] {
  const isStandby = (pid: number) => {
    const job = isDaemon(pid) ? jobOf(pid) : undefined;
    return (
      job?.verb === "recover" && job.role === "standby" && job.id === id && job.runDir === runDir
    );
  };
  // Its moment may have come: then it is the server.
  return processIds().filter((pid) => pid !== process.pid && isStandby(pid) && !holdsChar(pid, id));
}

function jobOf(pid: number): Job | undefined {
  const words = peek(() => readFileSync(`/proc/${pid}/cmdline`, "utf8"))?.split("\0") ?? [];
  const at = words.indexOf(DAEMON_COMMAND);
  return at < 0 ? undefined : peek(() => JSON.parse(words[at + 1] ?? "") as Job);
}
