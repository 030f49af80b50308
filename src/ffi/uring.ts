// What a ublk server uses of linux/io_uring.h; gcc judges every number (test/ffi/headers.test.ts).
//
// The C names are kept, a table's name is the prefix: IORING_OP_NOP is IORING_OP.NOP.

import { layout, member } from "./layout.ts";

/** `opcode` of a submission. */
export const IORING_OP = {
  NOP: 0,
  READV: 1,
  WRITEV: 2,
  FSYNC: 3,
  READ_FIXED: 4,
  WRITE_FIXED: 5,
  POLL_ADD: 6,
  POLL_REMOVE: 7,
  SYNC_FILE_RANGE: 8,
  TIMEOUT: 11,
  TIMEOUT_REMOVE: 12,
  ASYNC_CANCEL: 14,
  LINK_TIMEOUT: 15,
  FALLOCATE: 17,
  READ: 22,
  WRITE: 23,
  PROVIDE_BUFFERS: 31,
  REMOVE_BUFFERS: 32,
  MSG_RING: 40,
  URING_CMD: 46,
  READV_FIXED: 60,
  WRITEV_FIXED: 61,
  URING_CMD128: 64,
} as const;

/** `flags` of a submission. */
export const IOSQE = {
  FIXED_FILE: 1 << 0,
  IO_DRAIN: 1 << 1,
  IO_LINK: 1 << 2,
  IO_HARDLINK: 1 << 3,
  ASYNC: 1 << 4,
  BUFFER_SELECT: 1 << 5,
  CQE_SKIP_SUCCESS: 1 << 6,
} as const;

/** `flags` of `io_uring_params`, for io_uring_setup(2). */
export const IORING_SETUP = {
  IOPOLL: 1 << 0,
  SQPOLL: 1 << 1,
  SQ_AFF: 1 << 2,
  CQSIZE: 1 << 3,
  CLAMP: 1 << 4,
  ATTACH_WQ: 1 << 5,
  R_DISABLED: 1 << 6,
  SUBMIT_ALL: 1 << 7,
  COOP_TASKRUN: 1 << 8,
  TASKRUN_FLAG: 1 << 9,
  SQE128: 1 << 10,
  CQE32: 1 << 11,
  SINGLE_ISSUER: 1 << 12,
  DEFER_TASKRUN: 1 << 13,
  NO_MMAP: 1 << 14,
  REGISTERED_FD_ONLY: 1 << 15,
  NO_SQARRAY: 1 << 16,
  HYBRID_IOPOLL: 1 << 17,
  CQE_MIXED: 1 << 18,
  SQE_MIXED: 1 << 19,
  SQ_REWIND: 1 << 20,
} as const;

/** `features` of `io_uring_params`, as io_uring_setup(2) returns them. */
export const IORING_FEAT = {
  SINGLE_MMAP: 1 << 0,
  NODROP: 1 << 1,
  SUBMIT_STABLE: 1 << 2,
  RW_CUR_POS: 1 << 3,
  CUR_PERSONALITY: 1 << 4,
  FAST_POLL: 1 << 5,
  POLL_32BITS: 1 << 6,
  SQPOLL_NONFIXED: 1 << 7,
  EXT_ARG: 1 << 8,
  NATIVE_WORKERS: 1 << 9,
  RSRC_TAGS: 1 << 10,
  CQE_SKIP: 1 << 11,
  LINKED_FILE: 1 << 12,
  REG_REG_RING: 1 << 13,
  RECVSEND_BUNDLE: 1 << 14,
  MIN_TIMEOUT: 1 << 15,
  RW_ATTR: 1 << 16,
  NO_IOWAIT: 1 << 17,
} as const;

/** Flags of io_uring_enter(2). */
export const IORING_ENTER = {
  GETEVENTS: 1 << 0,
  SQ_WAKEUP: 1 << 1,
  SQ_WAIT: 1 << 2,
  EXT_ARG: 1 << 3,
  REGISTERED_RING: 1 << 4,
  ABS_TIMER: 1 << 5,
  EXT_ARG_REG: 1 << 6,
  NO_IOWAIT: 1 << 7,
} as const;

/** Opcodes of io_uring_register(2) that register something. */
export const IORING_REGISTER = {
  BUFFERS: 0,
  FILES: 2,
  EVENTFD: 4,
  FILES_UPDATE: 6,
  EVENTFD_ASYNC: 7,
  PROBE: 8,
  ENABLE_RINGS: 12,
  FILES2: 13,
  FILES_UPDATE2: 14,
  BUFFERS2: 15,
  BUFFERS_UPDATE: 16,
  IOWQ_AFF: 17,
  IOWQ_MAX_WORKERS: 19,
  RING_FDS: 20,
  PBUF_RING: 22,
  SYNC_CANCEL: 24,
  PBUF_STATUS: 26,
  SEND_MSG_RING: 31,
  /** Added to an opcode when the ring is named by its registered number. */
  USE_REGISTERED_RING: 0x8000_0000,
} as const;

/** Opcodes of io_uring_register(2) that take something back. */
export const IORING_UNREGISTER = {
  BUFFERS: 1,
  FILES: 3,
  EVENTFD: 5,
  IOWQ_AFF: 18,
  RING_FDS: 21,
  PBUF_RING: 23,
} as const;

/** `flags` of `io_uring_rsrc_register`. */
export const IORING_RSRC_REGISTER = { SPARSE: 1 << 0 } as const;

/** `flags` of `io_uring_buf_reg`. */
export const IOU_PBUF_RING = { MMAP: 1, INC: 2 } as const;

/** `flags` of a completion. */
export const IORING_CQE_F = {
  BUFFER: 1 << 0,
  MORE: 1 << 1,
  SOCK_NONEMPTY: 1 << 2,
  NOTIF: 1 << 3,
  BUF_MORE: 1 << 4,
  SKIP: 1 << 5,
  32: 1 << 15,
} as const;

/** With `IORING_CQE_F.BUFFER`, the buffer's number is `flags >>> IORING_CQE_BUFFER_SHIFT`. */
export const IORING_CQE_BUFFER_SHIFT = 16;

/** The submission ring's `flags` word, written by the kernel. */
export const IORING_SQ = { NEED_WAKEUP: 1 << 0, CQ_OVERFLOW: 1 << 1, TASKRUN: 1 << 2 } as const;

/** The completion ring's `flags` word, written by the program. */
export const IORING_CQ = { EVENTFD_DISABLED: 1 << 0 } as const;

/** File offsets for mmap(2) of a ring's descriptor, in bytes. */
export const IORING_OFF = {
  SQ_RING: 0,
  CQ_RING: 0x0800_0000,
  SQES: 0x1000_0000,
  PBUF_RING: 0x8000_0000,
  PBUF_SHIFT: 16,
  MMAP_MASK: 0xf800_0000,
} as const;

/** `uring_cmd_flags` of a URING_CMD. */
export const IORING_URING_CMD = { FIXED: 1 << 0, MULTISHOT: 1 << 1, MASK: 3 } as const;

/** `fsync_flags` of an FSYNC. */
export const IORING_FSYNC = { DATASYNC: 1 << 0 } as const;

/** `timeout_flags` of a TIMEOUT. */
export const IORING_TIMEOUT = {
  ABS: 1 << 0,
  UPDATE: 1 << 1,
  BOOTTIME: 1 << 2,
  REALTIME: 1 << 3,
  ETIME_SUCCESS: 1 << 5,
  MULTISHOT: 1 << 6,
} as const;

/** `len` of a POLL_ADD or POLL_REMOVE. */
export const IORING_POLL = {
  ADD_MULTI: 1 << 0,
  UPDATE_EVENTS: 1 << 1,
  UPDATE_USER_DATA: 1 << 2,
  ADD_LEVEL: 1 << 3,
} as const;

/** `cancel_flags` of an ASYNC_CANCEL; 0 cancels the one whose `user_data` is in `addr`. */
export const IORING_ASYNC_CANCEL = {
  ALL: 1 << 0,
  FD: 1 << 1,
  ANY: 1 << 2,
  FD_FIXED: 1 << 3,
  USERDATA: 1 << 4,
  OP: 1 << 5,
} as const;

/** `addr` of a MSG_RING: DATA gives the other ring a completion with res = len, user_data = off. */
export const IORING_MSG = { DATA: 0, SEND_FD: 1 } as const;

/** `msg_ring_flags` of a MSG_RING. */
export const IORING_MSG_RING = { CQE_SKIP: 1 << 0, FLAGS_PASS: 1 << 1 } as const;

/** A submission: 64 bytes, or 128 (80 for the command) on a ring with `IORING_SETUP.SQE128`. */
export const io_uring_sqe = layout(64, {
  opcode: ["u8", 0],
  flags: ["u8", 1],
  ioprio: ["u16", 2],
  fd: ["s32", 4],
  off: ["u64", 8],
  addr2: ["u64", 8],
  cmd_op: ["u32", 8],
  __pad1: ["u32", 12],
  addr: ["u64", 16],
  len: ["u32", 24],
  rw_flags: ["u32", 28],
  fsync_flags: ["u32", 28],
  poll32_events: ["u32", 28],
  sync_range_flags: ["u32", 28],
  timeout_flags: ["u32", 28],
  cancel_flags: ["u32", 28],
  msg_ring_flags: ["u32", 28],
  uring_cmd_flags: ["u32", 28],
  nop_flags: ["u32", 28],
  user_data: ["u64", 32],
  buf_index: ["u16", 40],
  buf_group: ["u16", 40],
  personality: ["u16", 42],
  file_index: ["u32", 44],
  addr3: ["u64", 48],
  /** Where a URING_CMD's own struct begins. */
  cmd: ["u8", 48],
});

/** A completion; twice as long on a ring with `IORING_SETUP.CQE32`. */
export const io_uring_cqe = layout(16, {
  user_data: ["u64", 0],
  res: ["s32", 8],
  flags: ["u32", 12],
});

/** Where things are in the mapped submission ring, in bytes. */
export const io_sqring_offsets = layout(40, {
  head: ["u32", 0],
  tail: ["u32", 4],
  ring_mask: ["u32", 8],
  ring_entries: ["u32", 12],
  flags: ["u32", 16],
  dropped: ["u32", 20],
  array: ["u32", 24],
  resv1: ["u32", 28],
  user_addr: ["u64", 32],
});

/** A bit of the completion ring's flags, ours to set: no eventfd is signalled. */
export const IORING_CQ_EVENTFD_DISABLED = 1 << 0;

/** Where things are in the mapped completion ring, in bytes. */
export const io_cqring_offsets = layout(40, {
  head: ["u32", 0],
  tail: ["u32", 4],
  ring_mask: ["u32", 8],
  ring_entries: ["u32", 12],
  overflow: ["u32", 16],
  cqes: ["u32", 20],
  flags: ["u32", 24],
  resv1: ["u32", 28],
  user_addr: ["u64", 32],
});

/** io_uring_setup(2): what is wanted, and on return what there is. */
export const io_uring_params = layout(120, {
  sq_entries: ["u32", 0],
  cq_entries: ["u32", 4],
  flags: ["u32", 8],
  sq_thread_cpu: ["u32", 12],
  sq_thread_idle: ["u32", 16],
  features: ["u32", 20],
  wq_fd: ["u32", 24],
  ...member("sq_off", 40, io_sqring_offsets),
  ...member("cq_off", 80, io_cqring_offsets),
});

/** io_uring_enter(2) with `IORING_ENTER.EXT_ARG`: `ts` is the address of a `__kernel_timespec`. */
export const io_uring_getevents_arg = layout(24, {
  sigmask: ["u64", 0],
  sigmask_sz: ["u32", 8],
  min_wait_usec: ["u32", 12],
  ts: ["u64", 16],
});

/** Time for TIMEOUT and `io_uring_getevents_arg` (linux/time_types.h). */
// oxlint-disable-next-line no-underscore-dangle -- the C name
export const __kernel_timespec = layout(16, { tv_sec: ["s64", 0], tv_nsec: ["s64", 8] });

/** `IORING_REGISTER.BUFFERS2` and `.FILES2`. */
export const io_uring_rsrc_register = layout(32, {
  nr: ["u32", 0],
  flags: ["u32", 4],
  resv2: ["u64", 8],
  data: ["u64", 16],
  tags: ["u64", 24],
});

/** An element of `IORING_REGISTER.RING_FDS`: `data` is the descriptor (io_uring_register(2)). */
export const io_uring_rsrc_update = layout(16, {
  offset: ["u32", 0],
  resv: ["u32", 4],
  data: ["u64", 8],
});

/** `IORING_REGISTER.PBUF_RING`. */
export const io_uring_buf_reg = layout(40, {
  ring_addr: ["u64", 0],
  ring_entries: ["u32", 8],
  bgid: ["u16", 12],
  flags: ["u16", 14],
  min_left: ["u32", 16],
});

/** An entry of a provided-buffer ring. */
export const io_uring_buf = layout(16, {
  addr: ["u64", 0],
  len: ["u32", 8],
  bid: ["u16", 12],
  resv: ["u16", 14],
});

/** A provided-buffer ring: its tail lies over `resv` of entry 0. */
export const io_uring_buf_ring = layout(16, { tail: ["u16", 14] });
