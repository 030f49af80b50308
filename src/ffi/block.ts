// Files and block devices as backings: what is used of linux/fs.h, stat.h, falloc.h and blkdev.h;
// gcc judges every number (test/ffi/headers.test.ts).

import { layout } from "./layout.ts";

/** ioctl(2): logical block size in bytes, an int. */
export const BLKSSZGET = 0x1268;
/** ioctl(2): physical block size in bytes, an unsigned int. */
export const BLKPBSZGET = 0x127b;
/** ioctl(2): size in bytes, 64 bits. */
export const BLKGETSIZE64 = 0x80081272;
/** ioctl(2): not 0 where the device is read-only, an int. */
export const BLKROGET = 0x125e;
/** ioctl(2): not 0 where it has turning platters, 16 bits. */
export const BLKROTATIONAL = 0x127e;

/** Command of a URING_CMD on a block device (Linux 6.12): `addr` is the start, `addr3` the length. */
export const BLOCK_URING_CMD_DISCARD = 0x1200;

/** `mode` of fallocate(2). */
export const FALLOC_FL = { KEEP_SIZE: 0x1, PUNCH_HOLE: 0x2, ZERO_RANGE: 0x10 } as const;

/** `rw_flags` of a READ or WRITE. */
export const RWF = { DSYNC: 0x2, NOWAIT: 0x8 } as const;

/** `mask` of statx(2); STATX.DIOALIGN fills the stx_dio fields (Linux 6.1). */
export const STATX = { BASIC_STATS: 0x7ff, DIOALIGN: 0x2000 } as const;

/** What statx(2) fills in, as far as it is read. */
export const statx = layout(256, {
  stx_mask: ["u32", 0],
  stx_blksize: ["u32", 4],
  stx_dio_mem_align: ["u32", 152],
  stx_dio_offset_align: ["u32", 156],
});
