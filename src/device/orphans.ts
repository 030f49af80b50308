// A device that may need a new server, as the kernel, the record and the locks show it.

import type { DeviceStateName, DevInfo } from "../control/commands/dev-info.ts";
import type { Control } from "../control/control.ts";
import { findDevice } from "./find-device.ts";
import { isOurs } from "./identity.ts";
import { serverPid } from "./inspect.ts";
import { isResting } from "./resting.ts";
import type { DeviceRecord, Store } from "./store.ts";

/**
 * - `gone`: nothing of ours is there: no device, no record, or another tool's, or another boot's
 * - `served`: by process `pid`
 * - `locked`: a command is at work on it, whose outcome is not known yet
 * - `stopped`: DEAD
 * - `resting`: without a server on purpose
 * - `orphaned`: without a server, and nobody wanted it
 */
export type Standing =
  | { readonly kind: "gone" }
  | { readonly kind: "served"; readonly pid: number; readonly record: DeviceRecord }
  | {
      readonly kind: "locked" | "stopped" | "resting" | "orphaned";
      readonly record: DeviceRecord;
      readonly state: DeviceStateName;
    };

/** How device `id` stands; only what this boot's record describes is ours. */
export async function standingOf(control: Control, store: Store, id: number): Promise<Standing> {
  // First: whatever is done to the device after this look is done under its lock, or ended before.
  const isLocked = store.isLocked(id);
  const record = store.loadIfUsable(id);
  const info = record === undefined ? undefined : await findDevice(control, id);
  if (record === undefined || info === undefined || !isOurs(record, info)) return { kind: "gone" };
  const pid = serverPid(info);
  if (pid > 0) return { kind: "served", pid, record };
  const kind = isLocked || store.isLocked(id) ? "locked" : idleKind(info, record, store);
  return { kind, record, state: info.state };
}

function idleKind(info: DevInfo, record: DeviceRecord, store: Store) {
  if (info.state === "DEAD") return "stopped";
  return isResting(store, record) ? "resting" : "orphaned";
}
