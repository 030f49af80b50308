// START_DEV: makes /dev/ublkbN; blocks until every tag of every queue has been fetched.

import { UBLK_CMD } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const startDev = defineCommand<{ readonly pid: number }>({
  name: "START_DEV",
  op: UBLK_CMD.START_DEV,
  encode: ({ pid }, frame) => {
    frame.data = BigInt(pid);
  },
  causes: {
    EEXIST: { why: "it is live already, or its previous disk is still open somewhere" },
    EBUSY: { why: "it was stopped while it was being started" },
    EINVAL: { why: "the kernel refuses its parameters or the server's pid" },
    ETIMEDOUT: {
      why: "its server does not answer the kernel's first reads",
      hint: "a longer deadline: --timeout SECONDS",
    },
  },
});
