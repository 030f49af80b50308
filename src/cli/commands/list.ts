// list: shows what the kernel, sysfs and the records know of the devices.

import type { DevInfo } from "../../control/commands/dev-info.ts";
import { getDevInfo } from "../../control/commands/index.ts";
import { inspectDetails } from "../../device/details.ts";
import { deviceIds } from "../../device/disk.ts";
import { findDevice } from "../../device/find-device.ts";
import { inspect } from "../../device/inspect.ts";
import { EXIT, UblkError } from "../../errors.ts";
import { commonArgs, idArgs, jsonArg, optionalId } from "../args.ts";
import { defineCommand } from "../define.ts";
import { formatDetails } from "../details.ts";
import { formatDevice, print, printJson } from "../output.ts";
import { openSession, type Session } from "../session.ts";

export default defineCommand({
  meta: { name: "list", description: "Show the disks, or one of them." },
  args: {
    ...idArgs,
    verbose: { type: "boolean", alias: "v", description: "everything, as info shows it" },
    ...jsonArg,
    ...commonArgs,
  },
  run: async ({ args }) => {
    const wanted = optionalId(args);
    using session = await openSession(args);
    const { control, store } = session;
    const infos = await wantedDevices(session, wanted);
    const unlessGone = wanted === undefined ? undefinedIfGone : <T>(report: Promise<T>) => report;
    if (args.verbose) {
      const details = [];
      for (const info of infos) {
        const one = await unlessGone(inspectDetails(control, store, info, session));
        if (one !== undefined) details.push(one);
      }
      if (args.json) printJson(details);
      else for (const one of details) print(formatDetails(one));
      return;
    }
    const reports = [];
    for (const info of infos) {
      const one = await unlessGone(inspect(control, store, info));
      if (one !== undefined) reports.push(one);
    }
    if (args.json) printJson(reports);
    else for (const report of reports) print(formatDevice(report));
  },
});

async function wantedDevices({ control }: Session, wanted: number | undefined): Promise<DevInfo[]> {
  if (wanted !== undefined) return [await control.run(getDevInfo, wanted, undefined)];
  const infos: DevInfo[] = [];
  for (const id of deviceIds()) {
    // It may be deleted while we look.
    const info = await findDevice(control, id);
    if (info !== undefined) infos.push(info);
  }
  return infos;
}

/** Among all devices, one that has been deleted meanwhile is none. */
async function undefinedIfGone<T>(report: Promise<T>): Promise<T | undefined> {
  try {
    return await report;
  } catch (error) {
    if (error instanceof UblkError && error.exitCode === EXIT.noDevice) return undefined;
    throw error;
  }
}
