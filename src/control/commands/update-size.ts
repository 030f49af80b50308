// UPDATE_SIZE: changes a live disk's size. The kernel checks nothing: the caller must.

import { UBLK_CMD, UBLK_F } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const updateSize = defineCommand<{ readonly sectors: bigint }>({
  name: "UPDATE_SIZE",
  op: UBLK_CMD.UPDATE_SIZE,
  needs: UBLK_F.UPDATE_SIZE,
  since: "6.16",
  encode: ({ sectors }, frame) => {
    frame.data = sectors;
  },
  causes: { ENODEV: { why: "it has no disk: it is not started" } },
});
