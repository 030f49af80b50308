// __daemon: the process that serves one device; started by add and recover.

import { defineCommand } from "citty";

import { runDaemon } from "../../device/daemon.ts";
import { AHEAD, type Job } from "../../device/job.ts";
import { EXIT } from "../../errors.ts";

export default defineCommand({
  meta: { name: "__daemon", hidden: true },
  args: {
    job: { type: "positional", required: true },
    workers: { type: "positional", required: false },
  },
  run: async ({ args }) => {
    const job = args.job === AHEAD ? await Bun.stdin.text() : args.job;
    // Whoever started us ahead has no need of us.
    if (job === "") process.exit(EXIT.ok);
    process.exit(await runDaemon(JSON.parse(job) as Job));
  },
});
