// struct ublksrv_ctrl_dev_info as the rest of the server sees it.

import { UBLK_F, UBLK_S_DEV, ublksrv_ctrl_dev_info, ublksrv_io_desc } from "../../ffi/ublk.ts";

/** A device's state, by its name in the header. */
export type DeviceStateName = keyof typeof UBLK_S_DEV | "UNKNOWN";

export interface DevInfo {
  readonly id: number;
  readonly queues: number;
  readonly depth: number;
  readonly state: DeviceStateName;
  readonly ioBufBytes: number;
  /** Bytes from one io descriptor to the next. */
  readonly ioDescBytes: number;
  /** As the kernel tells it: -1 for none; 6.12 goes on naming a dead one. */
  readonly serverPid: number;
  /** UBLK_F bits. */
  readonly flags: bigint;
  /** The 64 bits that the server chose at ADD_DEV; the kernel keeps them untouched. */
  readonly identity: bigint;
  readonly ownerUid: number;
  readonly ownerGid: number;
}

const STATE_NAMES = new Map(
  Object.entries(UBLK_S_DEV).map(([name, value]) => [value as number, name as DeviceStateName]),
);

export function readDevInfo(view: DataView, baseBytes = 0): DevInfo {
  const raw = ublksrv_ctrl_dev_info.read(view, baseBytes);
  return {
    id: raw.dev_id,
    queues: raw.nr_hw_queues,
    depth: raw.queue_depth,
    state: STATE_NAMES.get(raw.state) ?? "UNKNOWN",
    ioBufBytes: raw.max_io_buf_bytes,
    // Without the flag the field is whatever was asked for (6.12), and does not count.
    ioDescBytes: raw.flags & UBLK_F.IO_DESC_SIZE ? raw.io_desc_size : ublksrv_io_desc.sizeBytes,
    serverPid: raw.ublksrv_pid,
    flags: raw.flags,
    identity: raw.ublksrv_flags,
    ownerUid: raw.owner_uid,
    ownerGid: raw.owner_gid,
  };
}
