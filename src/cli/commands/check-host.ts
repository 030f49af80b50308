// __check-host: the process that holds a target under check.

import { defineCommand } from "citty";

import { hostTarget } from "../../check/host.ts";
import type { HostJob } from "../../check/protocol.ts";

export default defineCommand({
  meta: { name: "__check-host", hidden: true },
  args: { job: { type: "positional", required: true } },
  run: ({ args }) => hostTarget(JSON.parse(args.job) as HostJob),
});
