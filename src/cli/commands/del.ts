// del: removes the disk, unless somebody has it open, then the device, its record and its log.

import { diskPath } from "../../device/disk.ts";
import { deleteAll, type Deletion } from "../../device/remove-all.ts";
import { deleteDevice, type DeleteOptions } from "../../device/remove.ts";
import { UsageError } from "../../errors.ts";
import { log } from "../../log.ts";
import { commonArgs, idArgs, jsonArg, optionalId, requiredId } from "../args.ts";
import { defineCommand } from "../define.ts";
import { print, printJson } from "../output.ts";
import { openSession } from "../session.ts";

export default defineCommand({
  meta: { name: "del", description: "Remove a disk, its device and its record." },
  args: {
    ...idArgs,
    all: { type: "boolean", alias: "a", description: "every device of ublk-bun" },
    force: { type: "boolean", description: "also when it is open, or another tool's" },
    async: {
      type: "boolean",
      description: "do not wait until the id is free (Linux 6.9)",
    },
    ...jsonArg,
    ...commonArgs,
  },
  run: async ({ args }) => {
    const json = args.json === true;
    const wishes = { force: args.force === true, async: args.async === true };
    if (args.all && optionalId(args) !== undefined) {
      throw new UsageError("--all and a device's number are given", "give one of them");
    }
    const id = args.all ? undefined : requiredId(args);
    using session = await openSession(args);
    const options = { ...session, ...wishes };
    if (id === undefined) return await all(options, json);
    await deleteDevice(id, options);
    if (json) printJson({ id, deleted: true });
    else print(`${diskPath(id)} is deleted`);
  },
});

async function all(options: DeleteOptions, json: boolean): Promise<void> {
  const outcomes: Deletion[] = [];
  process.exitCode = await deleteAll(options, (outcome) => {
    outcomes.push(outcome);
    if (!outcome.deleted) log.error(outcome.error);
    else if (!json) print(`${diskPath(outcome.id)} is deleted`);
  });
  if (json) printJson(outcomes);
}
