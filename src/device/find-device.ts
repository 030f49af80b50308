// Asks the kernel for a device that may not be there.

import type { DevInfo } from "../control/commands/dev-info.ts";
import { getDevInfo } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { KernelError } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";

/** The device's info, or undefined when the kernel has no such device. */
export async function findDevice(control: Control, id: number): Promise<DevInfo | undefined> {
  try {
    return await control.run(getDevInfo, id, undefined);
  } catch (error) {
    if (error instanceof KernelError && error.errno === ERRNO.ENODEV) return undefined;
    throw error;
  }
}
