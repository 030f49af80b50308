// watch: stays, and recovers disks whenever their servers die.

import { watchDevices } from "../../device/watch.ts";
import { commonArgs } from "../args.ts";
import { defineCommand } from "../define.ts";
import { openSession } from "../session.ts";
import { readWatchArgs, watchArgs } from "../watch-args.ts";

export default defineCommand({
  meta: { name: "watch", description: "Recover disks whenever their servers die." },
  args: { ...watchArgs, ...commonArgs },
  run: async ({ args }) => {
    const wish = readWatchArgs(args);
    using session = await openSession(args);
    await watchDevices({ ...session, ...wish });
  },
});
