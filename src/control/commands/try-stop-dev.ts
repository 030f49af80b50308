// TRY_STOP_DEV: as STOP_DEV, but refuses while the disk is open.

import { UBLK_CMD, UBLK_F } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const tryStopDev = defineCommand({
  name: "TRY_STOP_DEV",
  op: UBLK_CMD.TRY_STOP_DEV,
  needs: UBLK_F.SAFE_STOP_DEV,
  since: "7.0",
  causes: { EBUSY: { why: "the disk is open", hint: "close or unmount it, or use --force" } },
});
