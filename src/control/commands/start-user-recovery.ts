// START_USER_RECOVERY: may a new server take this device over? EBUSY until the old one is gone.

import { UBLK_CMD, UBLK_F } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const startUserRecovery = defineCommand({
  name: "START_USER_RECOVERY",
  op: UBLK_CMD.START_USER_RECOVERY,
  needs: UBLK_F.USER_RECOVERY,
  since: "6.1",
  causes: {
    EINVAL: { why: "the device was added without recovery", exitCode: 6 },
    EBUSY: { why: "its old server, or somebody else, still holds its char device" },
  },
});
