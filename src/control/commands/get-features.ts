// GET_FEATURES: which UBLK_F bits this kernel's driver knows.

import { UBLK_CMD } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const getFeatures = defineCommand<void, bigint>({
  name: "GET_FEATURES",
  op: UBLK_CMD.GET_FEATURES,
  since: "6.5",
  bufferBytes: 8,
  decode: (frame) => frame.view.getBigUint64(0, true),
});
