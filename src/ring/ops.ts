// Fills submission queue entries: one function per io_uring operation.
//
// `sqes[at]` is the first word of an entry, as Ring.sqe() returns it. Every function writes all of
// the entry's first 64 bytes except user_data, which setUserData writes: the kernel clears nothing,
// and what an earlier operation left there would be obeyed. Numbers are safe integers; completions
// carry a negative errno or the result named below.

import { IORING_OP } from "../ffi/uring.ts";

const WORD = 4294967296;

/** What the completion is recognised by: two 32-bit halves. */
export function setUserData(sqes: Int32Array, at: number, lo: number, hi: number): void {
  sqes[at + 8] = lo;
  sqes[at + 9] = hi;
}

/** Adds `IOSQE` bits (fixed file, link, ...) to a filled entry. */
export function addFlags(sqes: Int32Array, at: number, iosqe: number): void {
  sqes[at] = sqes[at]! | (iosqe << 8);
}

/** Does nothing; result 0. */
export function prepNop(sqes: Int32Array, at: number): void {
  sqes[at] = IORING_OP.NOP;
  sqes[at + 1] = -1;
  clearFields(sqes, at);
  clearRest(sqes, at);
}

/** Reads from a file into mapped memory; result: bytes read, fewer at the end of the file. */
export function prepRead(
  sqes: Int32Array,
  at: number,
  fd: number,
  address: number,
  lengthBytes: number,
  offsetBytes: number,
): void {
  sqes[at] = IORING_OP.READ;
  sqes[at + 1] = fd;
  place(sqes, at, offsetBytes, address);
  sqes[at + 6] = lengthBytes;
  sqes[at + 7] = 0;
  clearRest(sqes, at);
}

/** Writes mapped memory to a file; result: bytes written. `rwFlags` are RWF_ bits (RWF_DSYNC). */
export function prepWrite(
  sqes: Int32Array,
  at: number,
  fd: number,
  address: number,
  lengthBytes: number,
  offsetBytes: number,
  rwFlags = 0,
): void {
  sqes[at] = IORING_OP.WRITE;
  sqes[at + 1] = fd;
  place(sqes, at, offsetBytes, address);
  sqes[at + 6] = lengthBytes;
  sqes[at + 7] = rwFlags;
  clearRest(sqes, at);
}

/**
 * One of the READ and WRITE family. `operation` is an IORING_OP with `IOSQE` bits shifted left by 8;
 * `file` a descriptor, or a position with IOSQE.FIXED_FILE; `lengthOrCount` bytes, or iovecs for the
 * vectored ones; `bufferIndex` counts for the fixed ones only.
 */
export function prepTransfer(
  sqes: Int32Array,
  at: number,
  operation: number,
  file: number,
  fileOffset: number,
  address: number,
  lengthOrCount: number,
  bufferIndex: number,
): void {
  sqes[at] = operation;
  sqes[at + 1] = file;
  place(sqes, at, fileOffset, address);
  sqes[at + 6] = lengthOrCount;
  sqes[at + 7] = 0;
  clearRest(sqes, at);
  sqes[at + 10] = bufferIndex;
}

/** Sets the RWF_ bits (RWF_DSYNC) of a filled READ or WRITE. */
export function setRwFlags(sqes: Int32Array, at: number, rwFlags: number): void {
  sqes[at + 7] = rwFlags;
}

/** fsync(2) of the whole file; `IORING_FSYNC.DATASYNC` makes it fdatasync(2). */
export function prepFsync(sqes: Int32Array, at: number, fd: number, fsyncFlags = 0): void {
  sqes[at] = IORING_OP.FSYNC;
  sqes[at + 1] = fd;
  clearFields(sqes, at);
  sqes[at + 7] = fsyncFlags;
  clearRest(sqes, at);
}

/** fallocate(2); `mode` is FALLOC_FL_ bits. */
export function prepFallocate(
  sqes: Int32Array,
  at: number,
  fd: number,
  mode: number,
  offsetBytes: number,
  lengthBytes: number,
): void {
  sqes[at] = IORING_OP.FALLOCATE;
  sqes[at + 1] = fd;
  // The kernel takes the length in `addr` and the mode in `len`.
  place(sqes, at, offsetBytes, lengthBytes);
  sqes[at + 6] = mode;
  sqes[at + 7] = 0;
  clearRest(sqes, at);
}

/**
 * Completes with -ETIME after the time in the struct __kernel_timespec at `address`, which the kernel
 * copies when the entry is submitted.
 */
export function prepTimeout(sqes: Int32Array, at: number, address: number): void {
  sqes[at] = IORING_OP.TIMEOUT;
  sqes[at + 1] = -1;
  place(sqes, at, 0, address); // `off` 0: whatever else completes meanwhile
  sqes[at + 6] = 1;
  sqes[at + 7] = 0;
  clearRest(sqes, at);
}

/** Waits until a descriptor is ready, once; `mask`: POLLIN and the like, result: what is ready. */
export function prepPollAdd(sqes: Int32Array, at: number, fd: number, mask: number): void {
  sqes[at] = IORING_OP.POLL_ADD;
  sqes[at + 1] = fd;
  clearFields(sqes, at);
  sqes[at + 7] = mask;
  clearRest(sqes, at);
}

/** Puts a completion with this result and user_data into another ring, waking who waits there. */
export function prepMsgRing(
  sqes: Int32Array,
  at: number,
  ringFd: number,
  result: number,
  userDataLo: number,
  userDataHi: number,
): void {
  sqes[at] = IORING_OP.MSG_RING;
  sqes[at + 1] = ringFd;
  clearFields(sqes, at); // `addr` 0 is IORING_MSG.DATA
  sqes[at + 2] = userDataLo;
  sqes[at + 3] = userDataHi;
  sqes[at + 6] = result;
  clearRest(sqes, at);
}

/** Cancels the operation with this user_data; result 0, -ENOENT (gone) or -EALREADY (running). */
export function prepCancel(
  sqes: Int32Array,
  at: number,
  userDataLo: number,
  userDataHi: number,
): void {
  sqes[at] = IORING_OP.ASYNC_CANCEL;
  sqes[at + 1] = -1;
  clearFields(sqes, at);
  sqes[at + 4] = userDataLo;
  sqes[at + 5] = userDataHi;
  clearRest(sqes, at);
}

/**
 * A command to a driver. Words 12 to 15 (to 31 on a ring of 128-byte entries) are its payload:
 * zero here, for the caller to fill.
 */
export function prepUringCmd(sqes: Int32Array, at: number, fd: number, cmdOp: number): void {
  sqes[at] = IORING_OP.URING_CMD;
  sqes[at + 1] = fd;
  clearFields(sqes, at);
  sqes[at + 2] = cmdOp;
  clearRest(sqes, at);
}

// Small functions on purpose: the engine inlines what has few bytecodes, and a call that is not
// inlined costs as much as all of these stores.

/** `off` and `addr`, numbers up to 2^53 in two words each. */
function place(sqes: Int32Array, at: number, off: number, addr: number): void {
  sqes[at + 2] = off | 0;
  sqes[at + 3] = (off / WORD) | 0;
  sqes[at + 4] = addr | 0;
  sqes[at + 5] = (addr / WORD) | 0;
}

/** `off`, `addr`, `len` and the operation's flags. */
function clearFields(sqes: Int32Array, at: number): void {
  sqes[at + 2] = 0;
  sqes[at + 3] = 0;
  sqes[at + 4] = 0;
  sqes[at + 5] = 0;
  sqes[at + 6] = 0;
  sqes[at + 7] = 0;
}

/** What comes after user_data: buffer, personality, file index, `addr3` or a command's payload. */
function clearRest(sqes: Int32Array, at: number): void {
  sqes[at + 10] = 0;
  sqes[at + 11] = 0;
  sqes[at + 12] = 0;
  sqes[at + 13] = 0;
  sqes[at + 14] = 0;
  sqes[at + 15] = 0;
}
