// __check-host: the process that holds a target under check.

import { defineCommand } from "citty";

import { hostTarget } from "../../check/host.ts";
import type { HostJob } from "../../check/protocol.ts";

export default defineCommand({
  meta: { name: "__check-host", hidden: true },
  args: { job: { type: "positional", required: true } },
  run: ({ args }) => {
    // What a target does to a process it does to this one, and whoever checks it tells.
    process.exit = process.exit.bind(process);
    return hostTarget(JSON.parse(args.job) as HostJob);
  },
});
