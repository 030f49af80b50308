// info: everything that is known of one device.

import { getDevInfo } from "../../control/commands/index.ts";
import { inspectDetails } from "../../device/details.ts";
import { commonArgs, idArgs, jsonArg, requiredId } from "../args.ts";
import { defineCommand } from "../define.ts";
import { formatDetails } from "../details.ts";
import { print, printJson } from "../output.ts";
import { openSession } from "../session.ts";

export default defineCommand({
  meta: { name: "info", description: "Show everything that is known of one disk." },
  args: { ...idArgs, ...jsonArg, ...commonArgs },
  run: async ({ args }) => {
    const id = requiredId(args);
    using session = await openSession(args);
    const { control, store } = session;
    const info = await control.run(getDevInfo, id, undefined);
    const details = await inspectDetails(control, store, info, session);
    if (args.json) printJson(details);
    else print(formatDetails(details));
  },
});
