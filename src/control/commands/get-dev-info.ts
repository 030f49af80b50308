// GET_DEV_INFO: what the kernel knows of a device; answers at once, whatever else is stuck.

import { UBLK_CMD, ublksrv_ctrl_dev_info } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";
import { type DevInfo, readDevInfo } from "./dev-info.ts";

export const getDevInfo = defineCommand<void, DevInfo>({
  name: "GET_DEV_INFO",
  op: UBLK_CMD.GET_DEV_INFO,
  bufferBytes: ublksrv_ctrl_dev_info.sizeBytes,
  decode: (frame) => readDevInfo(frame.view),
});
