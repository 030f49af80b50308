// QUIESCE_DEV: holds new I/O and takes idle tags back, so that the server can leave (UBLK_F_QUIESCE).

import { UBLK_CMD, UBLK_F } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const quiesceDev = defineCommand<{ readonly timeoutMs: number }>({
  name: "QUIESCE_DEV",
  op: UBLK_CMD.QUIESCE_DEV,
  needs: UBLK_F.QUIESCE,
  since: "6.16",
  encode: ({ timeoutMs }, frame) => {
    frame.data = BigInt(timeoutMs);
  },
  causes: {
    EBUSY: {
      why: "its I/O did not end in time; new I/O stays held: repeat, or restart the server",
    },
  },
});
