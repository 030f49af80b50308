// END_USER_RECOVERY: blocks until every tag is fetched, then the new server is the device's server.

import { UBLK_CMD, UBLK_F } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const endUserRecovery = defineCommand<{ readonly pid: number }>({
  name: "END_USER_RECOVERY",
  op: UBLK_CMD.END_USER_RECOVERY,
  needs: UBLK_F.USER_RECOVERY,
  since: "6.1",
  encode: ({ pid }, frame) => {
    frame.data = BigInt(pid);
  },
  causes: {
    EINVAL: {
      why: "the kernel refuses the server's pid, or the device was added without recovery",
    },
    EBUSY: { why: "the device is not waiting for a server any more: it was stopped meanwhile" },
  },
});
