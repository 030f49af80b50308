// ADD_DEV: creates /dev/ublkcN.

import { UBLK_CMD, UBLK_F, ublksrv_ctrl_dev_info } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";
import { type DevInfo, readDevInfo } from "./dev-info.ts";

/** Lets the kernel choose the id. */
export const ANY_DEVICE = 0xffffffff;

export interface AddRequest {
  /** The same as the command's device id, or ANY_DEVICE in both. */
  readonly id: number;
  readonly queues: number;
  readonly depth: number;
  readonly ioBufBytes: number;
  /** Counts with UBLK_F.IO_DESC_SIZE only: 24 to 256, a multiple of 8. */
  readonly ioDescBytes: number;
  readonly flags: bigint;
  readonly identity: bigint;
}

export const addDev = defineCommand<AddRequest, DevInfo>({
  name: "ADD_DEV",
  op: UBLK_CMD.ADD_DEV,
  bufferBytes: ublksrv_ctrl_dev_info.sizeBytes,
  encode: (request, frame) => {
    // 6.12 trusts state and pid as they stand here: everything not named stays zero.
    ublksrv_ctrl_dev_info.write(frame.view, {
      dev_id: request.id,
      nr_hw_queues: request.queues,
      queue_depth: request.depth,
      max_io_buf_bytes: request.ioBufBytes,
      ...(request.flags & UBLK_F.IO_DESC_SIZE ? { io_desc_size: request.ioDescBytes } : {}),
      flags: request.flags,
      ublksrv_flags: request.identity,
    });
  },
  decode: (frame) => readDevInfo(frame.view),
  causes: {
    EEXIST: {
      why: "the id is taken",
      hint: "leave -n out to get a free one, or see: ublk-bun list",
      exitCode: 5,
    },
    ENOSPC: { why: "no device id is free", hint: "delete devices that are not needed" },
    EACCES: {
      why: "too many devices (ublks_max)",
      hint: "raise /sys/module/ublk_drv/parameters/ublks_max",
    },
    EINVAL: { why: "the kernel refuses this combination of flags, queues or depth" },
  },
});
