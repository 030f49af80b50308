// del: removes the disk, unless somebody has it open, then the device, its record and its log.

import { defineCommand } from "citty";

import { diskPath } from "../../device/disk.ts";
import { deleteDevice } from "../../device/remove.ts";
import { commonArgs, idArgs, jsonArg, requiredId } from "../args.ts";
import { print, printJson } from "../output.ts";
import { openSession } from "../session.ts";

export default defineCommand({
  meta: { name: "del", description: "Remove a disk, its device and its record." },
  args: {
    ...idArgs,
    force: { type: "boolean", description: "also when it is open, or another tool's" },
    ...jsonArg,
    ...commonArgs,
  },
  run: async ({ args }) => {
    const id = requiredId(args);
    using session = await openSession(args);
    await deleteDevice(id, { ...session, force: args.force === true });
    if (args.json) printJson({ id, deleted: true });
    else print(`${diskPath(id)} is deleted`);
  },
});
