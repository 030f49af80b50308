// The whole of linux/ublk_cmd.h as of Linux 7.3, and the protection constants of linux/fs.h.
//
// The C names are kept, a table's name is the prefix: UBLK_F_QUIESCE is UBLK_F.QUIESCE. What
// is encoded for ioctl loses its U_: UBLK_U_CMD_ADD_DEV is UBLK_CMD.ADD_DEV. A test lets gcc judge
// every number here, and fails on a macro or member of the header that is missing here
// (test/ffi/headers.test.ts).

import { layout, member } from "./layout.ts";

// --- Control commands, on /dev/ublk-control -------------------------------------------------

/** What a control command carries, at byte 48 of a 128-byte submission. */
export const ublksrv_ctrl_cmd = layout(32, {
  dev_id: ["u32", 0],
  /** 0xffff for commands that are not for a queue. */
  queue_id: ["u16", 4],
  /** Bytes at `addr`. */
  len: ["u16", 6],
  addr: ["u64", 8],
  /** C: `data[0]`. */
  data: ["u64", 16],
  dev_path_len: ["u16", 24],
  pad: ["u16", 26],
  reserved: ["u32", 28],
});

/** What ADD_DEV asks for and GET_DEV_INFO tells. */
export const ublksrv_ctrl_dev_info = layout(64, {
  nr_hw_queues: ["u16", 0],
  queue_depth: ["u16", 2],
  /** One of `UBLK_S_DEV`. */
  state: ["u16", 4],
  /** Bytes from one io descriptor to the next; without `UBLK_F.IO_DESC_SIZE` 24. */
  io_desc_size: ["u16", 6],
  max_io_buf_bytes: ["u32", 8],
  dev_id: ["u32", 12],
  ublksrv_pid: ["s32", 16],
  pad1: ["u32", 20],
  /** Of `UBLK_F`. */
  flags: ["u64", 24],
  /** The server's own; the kernel keeps it untouched. */
  ublksrv_flags: ["u64", 32],
  owner_uid: ["u32", 40],
  owner_gid: ["u32", 44],
  reserved1: ["u64", 48],
  reserved2: ["u64", 56],
});

/** Plain command numbers, which kernels with legacy opcodes take too. */
export const UBLK_CMD_LEGACY = {
  GET_QUEUE_AFFINITY: 0x01,
  GET_DEV_INFO: 0x02,
  ADD_DEV: 0x04,
  DEL_DEV: 0x05,
  START_DEV: 0x06,
  STOP_DEV: 0x07,
  SET_PARAMS: 0x08,
  GET_PARAMS: 0x09,
  START_USER_RECOVERY: 0x10,
  END_USER_RECOVERY: 0x11,
  GET_DEV_INFO2: 0x12,
} as const;

/** `cmd_op` of the control commands. */
export const UBLK_CMD = {
  GET_QUEUE_AFFINITY: ior(0x01, ublksrv_ctrl_cmd),
  GET_DEV_INFO: ior(0x02, ublksrv_ctrl_cmd),
  ADD_DEV: iowr(0x04, ublksrv_ctrl_cmd),
  DEL_DEV: iowr(0x05, ublksrv_ctrl_cmd),
  START_DEV: iowr(0x06, ublksrv_ctrl_cmd),
  STOP_DEV: iowr(0x07, ublksrv_ctrl_cmd),
  SET_PARAMS: iowr(0x08, ublksrv_ctrl_cmd),
  GET_PARAMS: ior(0x09, ublksrv_ctrl_cmd),
  START_USER_RECOVERY: iowr(0x10, ublksrv_ctrl_cmd),
  END_USER_RECOVERY: iowr(0x11, ublksrv_ctrl_cmd),
  GET_DEV_INFO2: ior(0x12, ublksrv_ctrl_cmd),
  GET_FEATURES: ior(0x13, ublksrv_ctrl_cmd),
  DEL_DEV_ASYNC: ior(0x14, ublksrv_ctrl_cmd),
  UPDATE_SIZE: iowr(0x15, ublksrv_ctrl_cmd),
  QUIESCE_DEV: iowr(0x16, ublksrv_ctrl_cmd),
  TRY_STOP_DEV: iowr(0x17, ublksrv_ctrl_cmd),
  REG_BUF: iowr(0x18, ublksrv_ctrl_cmd),
  UNREG_BUF: iowr(0x19, ublksrv_ctrl_cmd),
} as const;

/** Feature flags: of GET_FEATURES, and of a device. Some need or exclude others. */
export const UBLK_F = {
  /** A request's pages can be registered as an io_uring buffer. */
  SUPPORT_ZERO_COPY: 1n << 0n,
  URING_CMD_COMP_IN_TASK: 1n << 1n,
  /** A write asks for its buffer before it is delivered. */
  NEED_GET_DATA: 1n << 2n,
  /** The disk outlives its server; new I/O waits for the next one. */
  USER_RECOVERY: 1n << 3n,
  /** And I/O that the dead server held is given to the next one. */
  USER_RECOVERY_REISSUE: 1n << 4n,
  UNPRIVILEGED_DEV: 1n << 5n,
  CMD_IOCTL_ENCODE: 1n << 6n,
  /** Data by pread and pwrite on /dev/ublkcN. */
  USER_COPY: 1n << 7n,
  ZONED: 1n << 8n,
  /** While there is no server, I/O fails at once instead of waiting. */
  USER_RECOVERY_FAIL_IO: 1n << 9n,
  UPDATE_SIZE: 1n << 10n,
  /** As zero copy, registered and unregistered by the kernel. */
  AUTO_BUF_REG: 1n << 11n,
  QUIESCE: 1n << 12n,
  /** Every tag may have a thread of its own; else all tags of a queue share one. */
  PER_IO_DAEMON: 1n << 13n,
  BUF_REG_OFF_DAEMON: 1n << 14n,
  BATCH_IO: 1n << 15n,
  INTEGRITY: 1n << 16n,
  /** TRY_STOP_DEV is known. */
  SAFE_STOP_DEV: 1n << 17n,
  NO_AUTO_PART_SCAN: 1n << 18n,
  SHMEM_ZC: 1n << 19n,
  IO_DESC_SIZE: 1n << 20n,
} as const;

/** Device states. */
export const UBLK_S_DEV = { DEAD: 0, LIVE: 1, QUIESCED: 2, FAIL_IO: 3 } as const;

/** What GET_FEATURES returns, in bytes. */
export const UBLK_FEATURES_LEN = 8;
/** Most tags of a queue. */
export const UBLK_MAX_QUEUE_DEPTH = 4096;
/** Most queues of a device. */
export const UBLK_MAX_NR_QUEUES = 4096;

// --- I/O commands, on /dev/ublkcN -----------------------------------------------------------

/** What an I/O command carries, at byte 48 of its submission. */
export const ublksrv_io_cmd = layout(16, {
  q_id: ["u16", 0],
  tag: ["u16", 2],
  /** Bytes, or a negative errno. */
  result: ["s32", 4],
  addr: ["u64", 8],
  zone_append_lba: ["u64", 8],
});

/** What a batch command carries, at byte 48 of its submission. */
export const ublk_batch_io = layout(16, {
  q_id: ["u16", 0],
  /** Of `UBLK_BATCH_F`. */
  flags: ["u16", 2],
  nr_elem: ["u16", 4],
  elem_bytes: ["u8", 6],
  reserved: ["u8", 7],
  reserved2: ["u64", 8],
});

/** An element of a batch begins with this; u64s for the flags that are set follow. */
export const ublk_elem_header = layout(8, {
  tag: ["u16", 0],
  buf_index: ["u16", 2],
  result: ["s32", 4],
});

/** `flags` of `ublk_batch_io`. */
export const UBLK_BATCH_F = {
  HAS_ZONE_LBA: 1 << 0,
  HAS_BUF_ADDR: 1 << 1,
  AUTO_BUF_REG_FALLBACK: 1 << 2,
} as const;

/** Plain I/O command numbers, which kernels with legacy opcodes take too. */
export const UBLK_IO_LEGACY = {
  FETCH_REQ: 0x20,
  COMMIT_AND_FETCH_REQ: 0x21,
  NEED_GET_DATA: 0x22,
} as const;

/** `cmd_op` of the I/O commands. */
export const UBLK_IO = {
  FETCH_REQ: iowr(0x20, ublksrv_io_cmd),
  COMMIT_AND_FETCH_REQ: iowr(0x21, ublksrv_io_cmd),
  NEED_GET_DATA: iowr(0x22, ublksrv_io_cmd),
  REGISTER_IO_BUF: iowr(0x23, ublksrv_io_cmd),
  UNREGISTER_IO_BUF: iowr(0x24, ublksrv_io_cmd),
  PREP_IO_CMDS: iowr(0x25, ublk_batch_io),
  COMMIT_IO_CMDS: iowr(0x26, ublk_batch_io),
  FETCH_IO_CMDS: iowr(0x27, ublk_batch_io),
} as const;

/** What a completed I/O command says; ABORT (-ENODEV) means that the tag is not to be re-armed. */
export const UBLK_IO_RES = { OK: 0, NEED_GET_DATA: 1, ABORT: -19 } as const;

/** A request, in the array that /dev/ublkcN maps: one for each tag. Sectors are 512 bytes. */
export const ublksrv_io_desc = layout(24, {
  /** `UBLK_IO_OP` in the low 8 bits, `UBLK_IO_F` above. */
  op_flags: ["u32", 0],
  nr_sectors: ["u32", 4],
  nr_zones: ["u32", 4],
  start_sector: ["u64", 8],
  addr: ["u64", 16],
});

/** What a request wants: the low 8 bits of `op_flags`. */
export const UBLK_IO_OP = {
  READ: 0,
  WRITE: 1,
  FLUSH: 2,
  DISCARD: 3,
  WRITE_SAME: 4,
  WRITE_ZEROES: 5,
  ZONE_OPEN: 10,
  ZONE_CLOSE: 11,
  ZONE_FINISH: 12,
  ZONE_APPEND: 13,
  ZONE_RESET_ALL: 14,
  ZONE_RESET: 15,
  REPORT_ZONES: 18,
} as const;

/** A request's flags, as they lie in `op_flags` (not shifted). */
export const UBLK_IO_F = {
  FAILFAST_DEV: 1 << 8,
  FAILFAST_TRANSPORT: 1 << 9,
  FAILFAST_DRIVER: 1 << 10,
  META: 1 << 11,
  FUA: 1 << 13,
  NOUNMAP: 1 << 15,
  SWAP: 1 << 16,
  /** Automatic registration failed: register by hand. */
  NEED_REG_BUF: 1 << 17,
  INTEGRITY: 1 << 18,
  /** `addr` is a place in a registered shared buffer (`UBLK_SHMEM_ZC`). */
  SHMEM_ZC: 1 << 19,
} as const;

// --- Where a request's data is --------------------------------------------------------------

/** The number of the bit `UBLKSRV.IO_INTEGRITY_FLAG`. */
export const UBLK_INTEGRITY_FLAG_OFF = 62;

/** File offsets on /dev/ublkcN: descriptors by mmap, data by pread and pwrite, in bytes. */
export const UBLKSRV = {
  CMD_BUF_OFFSET: 0,
  IO_BUF_OFFSET: 0x8000_0000,
  IO_BUF_TOTAL_BITS: 53,
  IO_BUF_TOTAL_SIZE: 1n << 53n,
  /** Set: the request's integrity data instead of its data. */
  IO_INTEGRITY_FLAG: 1n << 62n,
} as const;

/** The byte within the request, in a data offset above `UBLKSRV.IO_BUF_OFFSET`. */
export const UBLK_IO_BUF = { OFF: 0, BITS: 25, BITS_MASK: (1 << 25) - 1 } as const;

/** The tag, in a data offset. */
export const UBLK_TAG = { OFF: 25, BITS: 16, BITS_MASK: (1 << 16) - 1 } as const;

/** The queue, in a data offset. */
export const UBLK_QID = { OFF: 41, BITS: 12, BITS_MASK: (1 << 12) - 1 } as const;

/** Automatic registration; in a submission's `addr` these 8 bytes are the struct itself. */
export const ublk_auto_buf_reg = layout(8, {
  index: ["u16", 0],
  /** Of `UBLK_AUTO_BUF_REG`. */
  flags: ["u8", 2],
  reserved0: ["u8", 3],
  reserved1: ["u32", 4],
});

/** FALLBACK: a request that cannot be registered is delivered with `UBLK_IO_F.NEED_REG_BUF`. */
export const UBLK_AUTO_BUF_REG = { FALLBACK: 1 << 0, F_MASK: 1 << 0 } as const;

/** What REG_BUF takes: memory shared with the programs that use the disk. */
export const ublk_shmem_buf_reg = layout(24, {
  addr: ["u64", 0],
  /** Bytes, whole pages. */
  len: ["u64", 8],
  /** Of `UBLK_SHMEM_BUF`. */
  flags: ["u32", 16],
  reserved: ["u32", 20],
});

/** `flags` of `ublk_shmem_buf_reg`. */
export const UBLK_SHMEM_BUF = { READ_ONLY: 1 << 0 } as const;

/** A request's `addr` with `UBLK_IO_F.SHMEM_ZC`: byte offset below, buffer index above. */
export const UBLK_SHMEM_ZC = { OFF_MASK: 0xffff_ffff, IDX_OFF: 32, IDX_MASK: 0xffff } as const;

// --- Parameters, of SET_PARAMS and GET_PARAMS -----------------------------------------------

/** `basic_attrs` of `ublk_params`. */
export const UBLK_ATTR = {
  READ_ONLY: 1 << 0,
  ROTATIONAL: 1 << 1,
  VOLATILE_CACHE: 1 << 2,
  FUA: 1 << 3,
} as const;

/** `types` of `ublk_params`: which blocks are filled. DEVT is only ever read. */
export const UBLK_PARAM_TYPE = {
  BASIC: 1 << 0,
  DISCARD: 1 << 1,
  DEVT: 1 << 2,
  ZONED: 1 << 3,
  DMA_ALIGN: 1 << 4,
  SEGMENT: 1 << 5,
  INTEGRITY: 1 << 6,
} as const;

/** Block and I/O sizes as powers of two, lengths in sectors of 512 bytes. */
export const ublk_param_basic = layout(32, {
  attrs: ["u32", 0],
  logical_bs_shift: ["u8", 4],
  physical_bs_shift: ["u8", 5],
  io_opt_shift: ["u8", 6],
  io_min_shift: ["u8", 7],
  max_sectors: ["u32", 8],
  chunk_sectors: ["u32", 12],
  dev_sectors: ["u64", 16],
  virt_boundary_mask: ["u64", 24],
});

/** Alignment and granularity in bytes. */
export const ublk_param_discard = layout(20, {
  discard_alignment: ["u32", 0],
  discard_granularity: ["u32", 4],
  max_discard_sectors: ["u32", 8],
  max_write_zeroes_sectors: ["u32", 12],
  max_discard_segments: ["u16", 16],
  reserved0: ["u16", 18],
});

/** Device numbers; those of the disk are 0 until it is started. */
export const ublk_param_devt = layout(16, {
  char_major: ["u32", 0],
  char_minor: ["u32", 4],
  disk_major: ["u32", 8],
  disk_minor: ["u32", 12],
});

/** Limits of a zoned disk. */
export const ublk_param_zoned = layout(32, {
  max_open_zones: ["u32", 0],
  max_active_zones: ["u32", 4],
  max_zone_append_sectors: ["u32", 8],
});

/** Alignment of data in memory: a mask, such as 511. */
export const ublk_param_dma_align = layout(8, { alignment: ["u32", 0] });

/** The least `max_segment_size`, in bytes. */
export const UBLK_MIN_SEGMENT_SIZE = 4096;

/** Limits of one request's pieces, in bytes. */
export const ublk_param_segment = layout(16, {
  seg_boundary_mask: ["u64", 0],
  max_segment_size: ["u32", 8],
  max_segments: ["u16", 12],
});

/** Protection data: `flags` of `LBMD_PI_CAP`, `csum_type` of `LBMD_PI_CSUM`, sizes in bytes. */
export const ublk_param_integrity = layout(16, {
  flags: ["u32", 0],
  max_integrity_segments: ["u16", 4],
  interval_exp: ["u8", 6],
  metadata_size: ["u8", 7],
  pi_offset: ["u8", 8],
  csum_type: ["u8", 9],
  tag_size: ["u8", 10],
});

/** All parameters of a device: `basic_attrs`, `discard_granularity`, `seg_max_segments` … */
export const ublk_params = layout(152, {
  /** Bytes of the struct the caller knows. */
  len: ["u32", 0],
  types: ["u32", 4],
  ...member("basic", 8, ublk_param_basic),
  ...member("discard", 40, ublk_param_discard),
  ...member("devt", 60, ublk_param_devt),
  ...member("zoned", 76, ublk_param_zoned),
  ...member("dma", 108, ublk_param_dma_align),
  ...member("seg", 120, ublk_param_segment),
  ...member("integrity", 136, ublk_param_integrity),
});

/** What the protection data can do (linux/fs.h). */
export const LBMD_PI_CAP = { INTEGRITY: 1 << 0, REFTAG: 1 << 1 } as const;

/** Its checksum (linux/fs.h). */
export const LBMD_PI_CSUM = { NONE: 0, IP: 1, CRC16_T10DIF: 2, CRC64_NVME: 4 } as const;

function ior(nr: number, argument: { readonly sizeBytes: number }): number {
  return ioctl(2, nr, argument.sizeBytes);
}

function iowr(nr: number, argument: { readonly sizeBytes: number }): number {
  return ioctl(3, nr, argument.sizeBytes);
}

// asm-generic/ioctl.h, which x86 and arm64 use: direction, size, type, number.
function ioctl(direction: number, nr: number, sizeBytes: number): number {
  return ((direction << 30) | (sizeBytes << 16) | ("u".charCodeAt(0) << 8) | nr) >>> 0;
}
