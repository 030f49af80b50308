// list: shows what the kernel, sysfs and the records know of the devices.

import { defineCommand } from "citty";

import { getDevInfo } from "../../control/commands/index.ts";
import { deviceIds } from "../../device/disk.ts";
import { type DeviceReport, inspect } from "../../device/inspect.ts";
import { findDevice } from "../../device/remove.ts";
import { commonArgs, idArgs, jsonArg, optionalId } from "../args.ts";
import { formatDevice, print, printJson } from "../output.ts";
import { openSession } from "../session.ts";

export default defineCommand({
  meta: { name: "list", description: "Show the disks, or one of them." },
  args: { ...idArgs, ...jsonArg, ...commonArgs },
  run: async ({ args }) => {
    const wanted = optionalId(args);
    using session = await openSession(args);
    const { control, store } = session;
    const reports: DeviceReport[] = [];
    if (wanted !== undefined) {
      const info = await control.run(getDevInfo, wanted, undefined);
      reports.push(await inspect(control, store, info));
    } else {
      for (const id of deviceIds()) {
        // It may be deleted while we look.
        const info = await findDevice(control, id);
        if (info !== undefined) reports.push(await inspect(control, store, info));
      }
    }
    if (args.json) printJson(reports);
    else for (const report of reports) print(formatDevice(report));
  },
});
