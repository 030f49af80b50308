// stop: removes the disk, unless somebody has it open; its device and record stay for del.

import { diskPath } from "../../device/disk.ts";
import { stopDevice } from "../../device/remove.ts";
import { UsageError } from "../../errors.ts";
import { commonArgs, idArgs, jsonArg, requiredId } from "../args.ts";
import { defineCommand } from "../define.ts";
import { print, printJson } from "../output.ts";
import { openSession } from "../session.ts";

export default defineCommand({
  meta: { name: "stop", description: "Remove a disk, but keep its device (DEAD) until del." },
  args: {
    ...idArgs,
    safe: { type: "boolean", description: "not while it is open; so it is without the word" },
    force: { type: "boolean", description: "also when it is open, or another tool's" },
    ...jsonArg,
    ...commonArgs,
  },
  run: async ({ args }) => {
    const id = requiredId(args);
    if (args.safe && args.force) {
      throw new UsageError("--safe and --force exclude each other", "stop is safe without either");
    }
    using session = await openSession(args);
    session.store.prepare();
    const stopped = await stopDevice(id, { ...session, force: args.force === true });
    if (args.json) printJson({ id, stopped });
    else print(stopped ? `${diskPath(id)} is stopped` : `device ${id} was stopped already`);
  },
});
