// What is left of an `add` whose daemon died half-way.

import type { Control } from "../control/control.ts";
import { findTarget } from "../targets/index.ts";
import { cleanUpMs } from "./deadline.ts";
import { deviceIds } from "./disk.ts";
import { findDevice } from "./find-device.ts";
import { Helper } from "./helper.ts";
import { identityText } from "./identity.ts";
import type { AddJob } from "./job.ts";
import type { DeviceLock, Store } from "./store.ts";

export interface RemainsOptions {
  readonly control: Control;
  readonly store: Store;
  /** The device's lock, where its id was known beforehand. */
  readonly lock: DeviceLock | undefined;
}

/** A daemon that was killed in the middle of `add` leaves a half-made device: it is known by its identity. */
export async function removeRemains(
  { control, store, lock }: RemainsOptions,
  { record, timeoutMs, liburing }: Pick<AddJob, "record" | "timeoutMs" | "liburing">,
): Promise<void> {
  const options = { control, timeoutMs: cleanUpMs(timeoutMs), liburing };
  for (const id of deviceIds()) {
    const info = await findDevice(control, id);
    if (info === undefined || identityText(info.identity) !== record.identity) continue;
    // Where the kernel has chosen the id, its lock died with the daemon.
    using own = lock === undefined ? await store.lockSoon(id, "add", options.timeoutMs) : undefined;
    void own;
    await using helper = new Helper(info, options);
    await helper.send("stop");
    await helper.send("del");
    store.remove(id);
    store.events.add("deleted", { id, target: record.target });
  }
  await findTarget(record.target).remove?.(record.spec, record);
}
