// GET_PARAMS: what SET_PARAMS stored, and the device numbers.

import { UBLK_CMD, ublk_params } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

/** struct ublk_params, flattened as in ffi/ublk.ts; blocks whose type bit is missing are zero. */
export type Params = Partial<ReturnType<typeof ublk_params.read>>;

export const getParams = defineCommand<void, ReturnType<typeof ublk_params.read>>({
  name: "GET_PARAMS",
  op: UBLK_CMD.GET_PARAMS,
  bufferBytes: ublk_params.sizeBytes,
  encode: (_request, frame) => ublk_params.write(frame.view, { len: ublk_params.sizeBytes }),
  decode: (frame) => ublk_params.read(frame.view),
});
