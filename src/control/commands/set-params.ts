// SET_PARAMS: the disk's size, block sizes and limits; before START_DEV only.

import { UBLK_CMD, ublk_params } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";
import type { Params } from "./get-params.ts";

export const setParams = defineCommand<Params>({
  name: "SET_PARAMS",
  op: UBLK_CMD.SET_PARAMS,
  bufferBytes: ublk_params.sizeBytes,
  encode: (params, frame) =>
    ublk_params.write(frame.view, { ...params, len: ublk_params.sizeBytes }),
  causes: {
    EINVAL: { why: "the kernel refuses this size or these limits" },
    EACCES: { why: "the device has been started, or its previous disk is still open" },
  },
});
