// Sets up an io_uring through liburing and maps it into typed arrays; says why when it cannot be.

import { assert, EXIT, KernelError } from "../errors.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import { io_uring, type Liburing } from "../ffi/liburing.ts";
import { mapMemory, type MappedMemory, pointer, viewInt32 } from "../ffi/memory.ts";
import { io_uring_cqe, io_uring_params, IORING_FEAT, IORING_SETUP } from "../ffi/uring.ts";

export interface RingOptions {
  readonly liburing: Liburing;
  /** Submission queue entries; the kernel rounds up to a power of two, up to 32768. */
  readonly entries: number;
  /** Completion queue entries, at least `entries`; rounded up likewise, up to 65536. */
  readonly cqEntries: number;
  /** `IORING_SETUP` bits; CQSIZE is added. SQPOLL, IOPOLL and CQE32 are not served here. */
  readonly flags: number;
}

/** What the kernel made, as a Ring uses it. */
export interface RingMemory {
  /** One page that liburing and the kernel are pointed to; laid out as `PAGE` says. */
  readonly page: MappedMemory;
  readonly pageWords: Int32Array;
  /** Heads, tails and counters of both queues; `params` says where. */
  readonly words: Int32Array;
  readonly sqes: Int32Array;
  readonly cqes: Int32Array;
  readonly fd: number;
  readonly params: ReturnType<typeof io_uring_params.read>;
}

/** Where things lie in the page: `struct io_uring`, set-up parameters, arguments of later calls. */
export const PAGE = {
  lengthBytes: 4096,
  ring: 0,
  params: 256,
  arg: 512,
  timespec: 576,
  bufReg: 640,
} as const;

const UNSERVED =
  IORING_SETUP.SQPOLL | IORING_SETUP.IOPOLL | IORING_SETUP.CQE32 | IORING_SETUP.CQE_MIXED;

/** @throws KernelError if the kernel refuses, saying what to do about it. */
export function setUpRing(options: RingOptions): RingMemory {
  assert((options.flags & UNSERVED) === 0, `ring flags ${options.flags} are served here`);
  const flags = options.flags | IORING_SETUP.CQSIZE;
  const page = mapMemory(PAGE.lengthBytes);
  const view = new DataView(page.bytes.buffer);
  io_uring_params.write(view, { flags, cq_entries: options.cqEntries }, PAGE.params);
  const result = options.liburing.io_uring_queue_init_params(
    options.entries,
    pointer(page.address + PAGE.ring),
    pointer(page.address + PAGE.params),
  );
  if (result < 0) {
    page[Symbol.dispose]();
    throw setupError(-result, options);
  }
  const params = io_uring_params.read(view, PAGE.params);
  const ring = io_uring.read(view, PAGE.ring);
  // Both since Linux 5.4 and 5.5; without the second one completions could be lost unseen.
  const features = IORING_FEAT.SINGLE_MMAP | IORING_FEAT.NODROP;
  assert((params.features & features) === features, `io_uring has the features ${features}`);

  const sqeBytes = (flags & IORING_SETUP.SQE128) === 0 ? 64 : 128;
  const words = viewInt32(Number(ring.sq_ring_ptr), Number(ring.sq_ring_sz) & ~3);
  // Slot n of the queue is entry n, for ever; liburing before 2.4 leaves this to its own submit.
  // `params` tells the flags in use: newer ones ask for NO_SQARRAY by themselves.
  if ((params.flags & IORING_SETUP.NO_SQARRAY) === 0) {
    const array = params.sq_off_array >> 2;
    for (let n = 0; n < params.sq_entries; n++) words[array + n] = n;
  }
  return {
    page,
    pageWords: new Int32Array(page.bytes.buffer),
    words,
    sqes: viewInt32(Number(ring.sq_sqes), params.sq_entries * sqeBytes),
    cqes: viewInt32(Number(ring.cq_cqes), params.cq_entries * io_uring_cqe.sizeBytes),
    fd: ring.ring_fd,
    params,
  };
}

function setupError(errno: number, { entries, cqEntries, flags }: RingOptions): KernelError {
  const what = `Cannot set up an io_uring of ${entries} submissions and ${cqEntries} completions`;
  const message = `${what}: ${errnoName(errno)}`;
  const notSupported = EXIT.notSupported;
  switch (errno) {
    case ERRNO.EPERM:
    case ERRNO.EACCES:
      return new KernelError(message, errno, {
        exitCode: notSupported,
        hint:
          "io_uring is disabled here: set the sysctl kernel.io_uring_disabled to 0, " +
          "and look for a seccomp filter (containers) that forbids it",
      });
    case ERRNO.ENOSYS:
      return new KernelError(message, errno, {
        exitCode: notSupported,
        hint: "this kernel, or a seccomp filter (containers), has no io_uring",
      });
    case ERRNO.EINVAL:
      return new KernelError(message, errno, {
        exitCode: notSupported,
        hint:
          `flags 0x${flags.toString(16)} need Linux 6.1 or newer; ` +
          "a ring has at most 32768 submissions and 65536 completions",
      });
    case ERRNO.ENOMEM:
      return new KernelError(message, errno, {
        hint: "raise the limit of locked memory (ulimit -l), or use fewer queues or less depth",
      });
    default:
      return new KernelError(message, errno);
  }
}
