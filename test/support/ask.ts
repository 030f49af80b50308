// What the kernel and our records say of a device, asked by the test itself: to start the executable for
// it takes a second in an emulated guest, and most tests ask several times.

import { getDevInfo } from "../../src/control/commands/index.ts";
import { Control } from "../../src/control/control.ts";
import { type DeviceReport, flagNames, inspect } from "../../src/device/inspect.ts";
import { Store } from "../../src/device/store.ts";
import { type Liburing, liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";

const TIMEOUT_MS = 60_000;

let library: Liburing | undefined;

/** Closed again at once: an open control device is a use of the driver, which some tests count. */
async function ask<T>(question: (control: Control) => T | Promise<T>): Promise<T> {
  library ??= loadLiburing(liburingPath());
  using control = await Control.open({ liburing: library, timeoutMs: TIMEOUT_MS });
  return await question(control);
}

/** The same as `ublk-bun list ID --json`, which has tests of its own. */
export const askReport = (id: number): Promise<DeviceReport> =>
  ask(async (control) =>
    inspect(control, new Store(), await control.run(getDevInfo, id, undefined)),
  );

/** Names of the UBLK_F bits that the running kernel's driver knows. */
export const askFeatures = () => ask(({ features }) => flagNames(features));
