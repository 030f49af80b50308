// What add and recover do once their daemon is live: show the device; in the foreground, stay.

import { getDevInfo } from "../control/commands/index.ts";
import { inspect } from "../device/inspect.ts";
import type { Launched } from "../device/launch.ts";
import { formatDevice, print, printJson } from "./output.ts";
import type { Session } from "./session.ts";

export interface LaunchedValues {
  readonly foreground?: boolean | undefined;
  readonly quiet?: boolean | undefined;
  readonly json?: boolean | undefined;
}

export async function finishLaunch(
  { id, exited }: Launched,
  { control, store }: Session,
  { foreground, quiet, json }: LaunchedValues,
): Promise<void> {
  if (!quiet) {
    const report = await inspect(control, store, await control.run(getDevInfo, id, undefined));
    if (json) printJson(report);
    else print(formatDevice(report));
  }
  if (foreground) process.exitCode = await exited;
}
