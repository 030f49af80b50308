// GET_DEV_INFO2: GET_DEV_INFO for unprivileged devices too, which are named by path.

import { UBLK_CMD, ublksrv_ctrl_dev_info } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";
import { type DevInfo, readDevInfo } from "./dev-info.ts";
import { DEVICE_PATH_BYTES_MAX, writeDevicePath } from "./device-path.ts";

export const getDevInfo2 = defineCommand<{ readonly charPath: string }, DevInfo>({
  name: "GET_DEV_INFO2",
  op: UBLK_CMD.GET_DEV_INFO2,
  since: "6.3",
  bufferBytes: DEVICE_PATH_BYTES_MAX + ublksrv_ctrl_dev_info.sizeBytes,
  encode: ({ charPath }, frame) => writeDevicePath(frame, charPath),
  decode: (frame) => readDevInfo(frame.view, frame.pathBytes),
});
