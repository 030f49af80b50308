// What a disk's queue asks of a file besides moving data: syncing, giving space back, zeroing.

import { BLOCK_URING_CMD_DISCARD, FALLOC_FL } from "../ffi/block.ts";
import { ERRNO } from "../ffi/errno.ts";
import { io_uring_sqe, IORING_FSYNC, IOSQE } from "../ffi/uring.ts";
import { addFlags, prepFallocate, prepFsync, prepUringCmd } from "../ring/ops.ts";
import { NEXT } from "./parts.ts";

/** What an SQE of a queue does to a file. */
export const STEP = {
  move: 0,
  sync: 1,
  /** Gives space back by punching. */
  discard: 2,
  /** The same by the command of a block device. */
  discardCommand: 3,
  /** Zeroes by punching. */
  punch: 4,
  /** Zeroes and keeps the space. */
  zero: 5,
  /** The same in two steps, for file systems that have no zeroing: punches, */
  hollow: 6,
  /** and takes the space again. */
  fill: 7,
  /** Nothing more. */
  none: -1,
} as const;

/** The step that has to follow one that ended so: NEXT.done, or a negative errno. */
export function stepAfter(step: number, outcome: number): number {
  if (outcome === NEXT.done) return step === STEP.hollow ? STEP.fill : STEP.none;
  if (outcome !== -ERRNO.EOPNOTSUPP) return STEP.none;
  if (step === STEP.discardCommand) return STEP.discard;
  if (step === STEP.punch) return STEP.zero;
  return step === STEP.zero ? STEP.hollow : STEP.none;
}

const PUNCH = FALLOC_FL.PUNCH_HOLE | FALLOC_FL.KEEP_SIZE;
const ZERO = FALLOC_FL.ZERO_RANGE | FALLOC_FL.KEEP_SIZE;
const FILL = FALLOC_FL.KEEP_SIZE;
const ADDR = io_uring_sqe.at.addr >> 2;
const ADDR3 = io_uring_sqe.at.addr3 >> 2;

/** Fills an SQE for every step but `move`; `file` is a position in the registered files. */
export function prepStep(
  sqes: Int32Array,
  at: number,
  file: number,
  step: number,
  offsetBytes: number,
  lengthBytes: number,
): void {
  if (step === STEP.sync) prepFsync(sqes, at, file, IORING_FSYNC.DATASYNC);
  else if (step === STEP.discardCommand) {
    prepUringCmd(sqes, at, file, BLOCK_URING_CMD_DISCARD);
    sqes[at + ADDR] = offsetBytes | 0;
    sqes[at + ADDR + 1] = Math.floor(offsetBytes / 4294967296);
    sqes[at + ADDR3] = lengthBytes | 0;
    sqes[at + ADDR3 + 1] = Math.floor(lengthBytes / 4294967296);
  } else {
    const mode = step === STEP.zero ? ZERO : step === STEP.fill ? FILL : PUNCH;
    prepFallocate(sqes, at, file, mode, offsetBytes, lengthBytes);
  }
  addFlags(sqes, at, IOSQE.FIXED_FILE);
}
