// __daemon: the process that serves one device; started by add and recover.

import { defineCommand } from "citty";

import { runDaemon } from "../../device/daemon.ts";
import type { Job } from "../../device/job.ts";

export default defineCommand({
  meta: { name: "__daemon", hidden: true },
  args: { job: { type: "positional", required: true } },
  run: async ({ args }) => {
    process.exitCode = await runDaemon(JSON.parse(args.job) as Job);
  },
});
