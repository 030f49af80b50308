// quiesce: ends a disk's server without a crash; its I/O waits for recover.

import { diskPath } from "../../device/disk.ts";
import { quiesceDevice } from "../../device/quiesce.ts";
import { commonArgs, idArgs, jsonArg, requiredId } from "../args.ts";
import { defineCommand } from "../define.ts";
import { print, printJson } from "../output.ts";
import { openSession } from "../session.ts";

export default defineCommand({
  meta: { name: "quiesce", description: "End a disk's server; its I/O waits for recover." },
  args: {
    ...idArgs,
    "allow-errors": {
      type: "boolean",
      description: "also where requests may fail meanwhile: --batch with --recovery=queue",
    },
    ...jsonArg,
    ...commonArgs,
  },
  run: async ({ args }) => {
    const id = requiredId(args);
    using session = await openSession(args);
    const quiesced = await quiesceDevice(id, {
      ...session,
      allowErrors: args["allow-errors"] === true,
    });
    if (args.json) return printJson({ id, quiesced });
    if (!quiesced) return print(`${diskPath(id)} had no server already; to go on: recover ${id}`);
    print(`${diskPath(id)} is quiesced: its I/O waits for ublk-bun recover ${id}`);
  },
});
