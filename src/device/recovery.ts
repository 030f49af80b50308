// The four ways in which the kernel can treat I/O when its server dies, as ublk flags.

import { EXIT, UblkError } from "../errors.ts";
import { UBLK_F } from "../ffi/ublk.ts";
import type { Recovery } from "./store.ts";

/** Sources: Documentation/block/ublk.rst; docs/recovery.md has what an application sees of each. */
export const RECOVERY_FLAGS: Readonly<Record<Recovery, bigint>> = {
  reissue: UBLK_F.USER_RECOVERY | UBLK_F.USER_RECOVERY_REISSUE,
  queue: UBLK_F.USER_RECOVERY,
  fail: UBLK_F.USER_RECOVERY | UBLK_F.USER_RECOVERY_FAIL_IO,
  none: 0n,
};

export const RECOVERIES = Object.keys(RECOVERY_FLAGS) as Recovery[];

/** Linux versions that brought what a recovery needs; for people. */
const SINCE: Readonly<Record<Recovery, string>> = {
  reissue: "6.1",
  queue: "6.1",
  fail: "6.13",
  none: "6.0",
};

/** The mode for a new device, as asked or as its target allows; `note` hears of surprises. */
export function chooseRecovery(
  asked: Recovery | undefined,
  isRepeatable: boolean,
  note: (text: string) => void,
): Recovery {
  if (isRepeatable) return asked ?? "reissue";
  const why = "its target or a filter says that it does harm to run a request twice";
  if (asked === undefined) {
    note(`--recovery=queue, because ${why}: what a dead server had taken fails`);
  } else if (asked === "reissue") {
    note(`--recovery=reissue gives what a dead server had taken to the next one, but ${why}`);
  }
  return asked ?? "queue";
}

/** The flags to ask ADD_DEV for. Throws (exit 4) where the driver does not know them. */
export function recoveryFlags(recovery: Recovery, features: bigint): bigint {
  const flags = RECOVERY_FLAGS[recovery];
  if (features !== 0n && (flags & ~features) !== 0n) throw unsupported(recovery);
  // QUIESCE_DEV lets go of a device without a crash; asked for wherever it exists.
  return recovery === "none" ? flags : flags | (features & UBLK_F.QUIESCE);
}

/** What ADD_DEV granted must hold what was asked: the kernel clears unknown bits silently. */
export function checkGranted(recovery: Recovery, granted: bigint): void {
  if ((RECOVERY_FLAGS[recovery] & ~granted) !== 0n) throw unsupported(recovery);
}

/** How a device of these flags is recovered. */
export function recoveryOf(flags: bigint): Recovery {
  if (!(flags & UBLK_F.USER_RECOVERY)) return "none";
  if (flags & UBLK_F.USER_RECOVERY_REISSUE) return "reissue";
  return flags & UBLK_F.USER_RECOVERY_FAIL_IO ? "fail" : "queue";
}

function unsupported(recovery: Recovery): UblkError {
  return new UblkError(`This kernel does not have --recovery=${recovery}`, {
    exitCode: EXIT.notSupported,
    hint: `it came with Linux ${SINCE[recovery]}; see: ublk-bun features`,
  });
}
