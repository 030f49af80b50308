// UNREG_BUF: takes a shared buffer back.

import { UBLK_CMD, UBLK_F } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const unregBuf = defineCommand<{ readonly index: number }>({
  name: "UNREG_BUF",
  op: UBLK_CMD.UNREG_BUF,
  needs: UBLK_F.SHMEM_ZC,
  since: "7.1",
  encode: ({ index }, frame) => {
    frame.data = BigInt(index);
  },
  causes: { ENOENT: { why: "no buffer has this index" } },
});
