// Ring: an io_uring whose queues are typed arrays over the memory shared with the kernel.
//
// Contract. One thread uses a ring, from creation to disposal. Data path calls (sqe, submit,
// submitAndWait, reap) do not allocate, and throw only when this contract is broken. Completions
// arrive in reap() only. While reap() runs, its callback may take and submit entries, but not wait
// or reap: what is being reaped is given back to the kernel when all of it is done.

import { assert, KernelError } from "../errors.ts";
import { errnoName } from "../ffi/errno.ts";
import { io_uring, type Liburing } from "../ffi/liburing.ts";
import { type MappedMemory, pointer } from "../ffi/memory.ts";
import {
  __kernel_timespec,
  io_uring_buf_reg,
  io_uring_getevents_arg,
  IORING_CQ_EVENTFD_DISABLED,
  IORING_ENTER,
  IORING_SETUP,
} from "../ffi/uring.ts";
import { PAGE, type RingOptions, setUpRing } from "./setup.ts";

/** A completion: the halves of user_data, the result (negative errno), and `IORING_CQE_F` bits. */
export type OnCompletion = (
  userDataLo: number,
  userDataHi: number,
  result: number,
  flags: number,
) => void;

/** How often a full submission queue is offered again to a kernel short of memory. */
const SUBMIT_TRIES = 1000;
/** Places in the ring's page, in words. */
const ENTER_RING_FD = (PAGE.ring + io_uring.at.enter_ring_fd) >> 2;
const TV_SEC = (PAGE.timespec + __kernel_timespec.at.tv_sec) >> 2;
const TV_NSEC = (PAGE.timespec + __kernel_timespec.at.tv_nsec) >> 2;
const TS = (PAGE.arg + io_uring_getevents_arg.at.ts) >> 2;

export class Ring implements Disposable {
  /** The ring's descriptor, for MSG_RING and poll(2). */
  readonly fd: number;
  /** How many entries can wait to be submitted. */
  readonly entries: number;
  /** How many completions fit before the kernel has to set some aside. */
  readonly cqEntries: number;
  /** Every word of every submission entry: 16 an entry, 32 with `IORING_SETUP.SQE128`. */
  readonly sqes: Int32Array;

  // Not #private: that doubles the bytecode of sqe(), and the engine no longer inlines it
  // (measured: 1.5 ns for each entry).
  private readonly liburing: Liburing;
  private readonly page: MappedMemory;
  private readonly pageWords: Int32Array;
  private readonly handle: ReturnType<typeof pointer>; // liburing's struct io_uring, in `page`
  private readonly timedArg: ReturnType<typeof pointer>; // of timed waits, in `page`
  private readonly ring: Int32Array; // heads, tails, counters
  private readonly cqes: Int32Array;
  private readonly sqTailAt: number; // indexes into `ring`
  private readonly cqHeadAt: number;
  private readonly cqTailAt: number;
  private readonly cqOverflowAt: number;
  private readonly cqFlagsAt: number;
  private readonly sqMask: number;
  private readonly cqMask: number;
  private readonly quick: number; // how many entries sqe() hands out with no more ado
  private readonly sqeShift: number; // log2 of words per entry
  private readonly shared: boolean; // completions are posted by other threads too
  private enterFd: number;
  private enterFlags = 0;
  private tail = 0; // entries handed out by sqe(), ever
  private submitted = 0; // entries the kernel took, ever; both wrap at 32 bits
  private timedNs = 0; // what the argument of timed waits says
  private reaping = false;
  private open = true;

  /** @throws KernelError if the kernel refuses, saying what to do about it. */
  constructor(options: RingOptions) {
    const memory = setUpRing(options);
    const { params } = memory;
    this.fd = memory.fd;
    this.entries = params.sq_entries;
    this.cqEntries = params.cq_entries;
    this.sqes = memory.sqes;
    this.liburing = options.liburing;
    this.page = memory.page;
    this.pageWords = memory.pageWords;
    this.handle = pointer(memory.page.address + PAGE.ring);
    this.timedArg = pointer(memory.page.address + PAGE.arg);
    this.ring = memory.words;
    this.cqes = memory.cqes;
    this.sqTailAt = params.sq_off_tail >> 2;
    this.cqHeadAt = params.cq_off_head >> 2;
    this.cqTailAt = params.cq_off_tail >> 2;
    this.cqOverflowAt = params.cq_off_overflow >> 2;
    this.cqFlagsAt = params.cq_off_flags >> 2;
    this.sqMask = params.sq_entries - 1;
    this.cqMask = params.cq_entries - 1;
    this.sqeShift = (options.flags & IORING_SETUP.SQE128) === 0 ? 4 : 5;
    this.shared = (options.flags & IORING_SETUP.DEFER_TASKRUN) === 0;
    this.quick = this.sqeShift === 5 ? 0 : this.entries;
    this.enterFd = this.fd;
  }

  /** Entries taken that the kernel has not seen yet. */
  get unsubmitted(): number {
    return (this.tail - this.submitted) | 0;
  }

  /** Completions that are lost for want of memory, ever; anything but 0 is fatal. */
  get overflow(): number {
    return this.ring[this.cqOverflowAt]! >>> 0;
  }

  /**
   * Takes the next free entry: the index of its first word in `sqes`. It still holds an earlier
   * operation, the prep functions overwrite all of it; only the second half of a 128-byte entry is
   * zeroed here. When the queue is full, what is in it is submitted first, so every entry must be
   * filled before the next one is taken.
   */
  sqe(): number {
    const tail = this.tail;
    if (((tail - this.submitted) | 0) >= this.quick) this.makeReady(tail);
    this.tail = (tail + 1) | 0;
    return (tail & this.sqMask) << this.sqeShift;
  }

  /**
   * Submits what was taken, without waiting. Returns how many entries the kernel took, possibly not
   * all (the next call offers the rest), or if none -EAGAIN (no memory now) or -EBUSY (completions
   * set aside must be reaped first).
   */
  submit(): number {
    return this.tail === this.submitted ? 0 : this.enter(0, 0);
  }

  /**
   * Submits, then waits until `count` completions are there to be reaped; 0 only collects what the
   * kernel has ready. `timeoutNs` 0 waits for ever. Returns how many entries were taken, even if
   * the wait was cut short; if none, also -EINTR (a signal) or -ETIME. The caller reaps after any
   * result, and calls again.
   */
  submitAndWait(count: number, timeoutNs = 0): number {
    if (this.reaping) misused("nobody waits while completions are reaped");
    if (timeoutNs > 0) return this.enterTimed(count, timeoutNs);
    return this.enter(count, IORING_ENTER.GETEVENTS);
  }

  /**
   * Hands every completion that is there to `on`, oldest first, and returns how many. Those that
   * arrive meanwhile stay for the next time. `on` must not throw: the ring takes no more reaping
   * then.
   */
  reap(on: OnCompletion): number {
    if (this.reaping) misused("completions are reaped by one reap() at a time");
    const ring = this.ring;
    const cqes = this.cqes;
    const mask = this.cqMask;
    let head = ring[this.cqHeadAt]!;
    // With DEFER_TASKRUN only this thread's own io_uring_enter posts, and a plain load will do.
    const end = this.shared ? Atomics.load(ring, this.cqTailAt) : ring[this.cqTailAt]!;
    const count = (end - head) | 0;
    if (count === 0) return 0;
    this.reaping = true;
    while (head !== end) {
      const at = (head & mask) << 2;
      head = (head + 1) | 0;
      on(cqes[at]!, cqes[at + 1]!, cqes[at + 2]!, cqes[at + 3]!);
    }
    if (this.shared) Atomics.store(ring, this.cqHeadAt, end);
    else ring[this.cqHeadAt] = end;
    this.reaping = false;
    return count;
  }

  /**
   * The same until none is left, of those that did not fit into the completion queue either: the kernel keeps them,
   * and all that follow, until somebody enters, and wakes nobody for them. For a ring that is not waited in.
   */
  reapAll(on: OnCompletion): void {
    while (this.reap(on) > 0) this.submitAndWait(0);
  }

  /** Makes each io_uring_enter some 10 ns cheaper. Dispose the ring in this same thread. */
  registerRingFd(): void {
    const result = this.liburing.io_uring_register_ring_fd(this.handle);
    // It counts the descriptors it registered.
    check("register the ring's descriptor", result === 1 ? 0 : result);
    this.enterFd = this.pageWords[ENTER_RING_FD]!;
    this.enterFlags = IORING_ENTER.REGISTERED_RING;
  }

  /** Entries with `IOSQE.FIXED_FILE` name these by position; -1 keeps a place free for `setFile`. */
  registerFiles(fds: readonly number[]): void {
    const files = Int32Array.from(fds);
    const result = this.liburing.io_uring_register_files(this.handle, files, fds.length);
    check(`register ${fds.length} files`, result);
  }

  /** Registers a file at a position that is there. The ring holds it until it is disposed. */
  setFile(position: number, fd: number): void {
    const files = Int32Array.of(fd);
    const result = this.liburing.io_uring_register_files_update(this.handle, position, files, 1);
    // It counts the descriptors it registered.
    check(`register file ${position}`, result === 1 ? 0 : result);
  }

  /** The eventfd counts up with every completion; with DEFER_TASKRUN, when there is one to collect. */
  registerEventfd(fd: number): void {
    check("register an eventfd", this.liburing.io_uring_register_eventfd(this.handle, fd));
  }

  /** Whether the eventfd counts: whoever looks at the ring all the time can do without. */
  setEventfdEnabled(isEnabled: boolean): void {
    // A fence: what is posted after it finds the new value, what was before is found by a look.
    Atomics.store(this.ring, this.cqFlagsAt, isEnabled ? 0 : IORING_CQ_EVENTFD_DISABLED);
  }

  /** An empty table of fixed buffers, for a driver to put its own into; at most 16384. */
  registerBuffersSparse(count: number): void {
    const result = this.liburing.io_uring_register_buffers_sparse(this.handle, count);
    check(`register ${count} buffers`, result);
  }

  /**
   * A ring of provided buffers: `address` is page-aligned mapped memory for `entries` (a power of
   * two, at most 32768) of `io_uring_buf`, and stays mapped as long as the Ring.
   */
  registerBufferRing(options: { group: number; entries: number; address: number }): void {
    const { group, entries, address } = options;
    io_uring_buf_reg.write(
      new DataView(this.pageWords.buffer),
      { ring_addr: address, ring_entries: entries, bgid: group, flags: 0 },
      PAGE.bufReg,
    );
    const result = this.liburing.io_uring_register_buf_ring(
      this.handle,
      pointer(this.page.address + PAGE.bufReg),
      0,
    );
    check(`register ${entries} provided buffers`, result);
  }

  /** Closes the ring and unmaps it: what is in flight is cancelled, `sqes` must not be used. */
  [Symbol.dispose](): void {
    if (!this.open) return;
    this.open = false;
    this.liburing.io_uring_queue_exit(this.handle);
    this.page[Symbol.dispose]();
  }

  private enter(count: number, flags: number): number {
    const tail = this.tail;
    const submitted = this.submitted;
    // The kernel reads it inside the call below, in this thread: no barrier.
    this.ring[this.sqTailAt] = tail;
    const taken = this.liburing.io_uring_enter(
      this.enterFd,
      (tail - submitted) | 0,
      count,
      flags | this.enterFlags,
      0,
    );
    if (taken > 0) this.submitted = (submitted + taken) | 0;
    return taken;
  }

  private enterTimed(count: number, timeoutNs: number): number {
    if (timeoutNs !== this.timedNs) this.setTimeout(timeoutNs);
    const submitted = this.submitted;
    this.ring[this.sqTailAt] = this.tail;
    const taken = this.liburing.io_uring_enter2(
      this.enterFd,
      (this.tail - submitted) | 0,
      count,
      IORING_ENTER.GETEVENTS | IORING_ENTER.EXT_ARG | this.enterFlags,
      this.timedArg,
      io_uring_getevents_arg.sizeBytes,
    );
    if (taken > 0) this.submitted = (submitted + taken) | 0;
    return taken;
  }

  /** Writes the argument of timed waits, which the kernel only reads. */
  private setTimeout(timeoutNs: number): void {
    this.timedNs = timeoutNs;
    const words = this.pageWords;
    const seconds = Math.floor(timeoutNs / 1e9);
    words[TV_SEC] = seconds | 0;
    words[TV_SEC + 1] = 0;
    words[TV_NSEC] = timeoutNs - seconds * 1e9;
    const timespec = this.page.address + PAGE.timespec;
    words[TS] = timespec | 0;
    words[TS + 1] = (timespec / 4294967296) | 0;
  }

  /** What sqe() does when the queue is full, or entries have a second half. */
  private makeReady(tail: number): void {
    if (this.unsubmitted === this.entries) this.makeRoom();
    if (this.sqeShift === 5) {
      const at = (tail & this.sqMask) << 5;
      this.sqes.fill(0, at + 16, at + 32);
    }
  }

  private makeRoom(): void {
    let result = 0;
    for (let n = 0; n < SUBMIT_TRIES; n++) {
      result = this.enter(0, 0);
      if (result > 0) return;
    }
    assert(false, `the kernel takes entries from a full queue: ${errnoName(-result)}`);
  }
}

/** Out of line: an assert() in the data path costs 1 ns a batch. */
function misused(contract: string): void {
  assert(false, contract);
}

/** Registration happens before the first I/O, so it throws. */
function check(what: string, result: number): void {
  if (result >= 0) return;
  throw new KernelError(`Cannot ${what} with io_uring: ${errnoName(-result)}`, -result);
}
