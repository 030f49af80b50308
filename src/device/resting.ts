// A device whose server ends on purpose: `watch` leaves it alone until somebody recovers it. The mark is
// a file of its own, because taking it back must work on a full file system too.

import { readFileSync, writeFileSync } from "../builtin.ts";
import { messageOf, UblkError } from "../errors.ts";
import { peek } from "./processes.ts";
import { type DeviceRecord, type Store, unlinkIfThere } from "./store.ts";

type Marked = Pick<DeviceRecord, "id" | "identity">;

/** Marks it, before its server goes. Throws UblkError where that cannot be written. */
export function markResting(store: Store, { id, identity }: Marked): void {
  const path = store.restPath(id);
  try {
    // A new file, never what somebody else may have put there.
    unlinkIfThere(path);
    writeFileSync(path, identity, { mode: 0o600, flag: "wx" });
  } catch (cause) {
    unlinkIfThere(path);
    throw new UblkError(`Cannot write "${path}": ${messageOf(cause)}`, {
      cause,
      hint: "make room there; nothing was changed",
    });
  }
}

/** True when the device has no server on purpose. */
export function isResting(store: Store, { id, identity }: Marked): boolean {
  return peek(() => readFileSync(store.restPath(id), "utf8")) === identity;
}

/** Takes the mark back: the device is served, and no server must end for a mark that stays. */
export function unmarkResting(store: Store, id: number): void {
  peek(() => unlinkIfThere(store.restPath(id)));
}
