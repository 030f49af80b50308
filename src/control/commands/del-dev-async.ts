// DEL_DEV_ASYNC: as DEL_DEV, without waiting for the id to become free.

import { UBLK_CMD } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const delDevAsync = defineCommand({
  name: "DEL_DEV_ASYNC",
  op: UBLK_CMD.DEL_DEV_ASYNC,
  since: "6.9",
});
