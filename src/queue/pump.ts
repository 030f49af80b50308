// How a queue's thread lives: asleep in its ring until something completes, one system call a round.

import { KernelError } from "../errors.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import type { Ring } from "../ring/ring.ts";
import type { Progress } from "./progress.ts";
import { assertNotRefused, type Queue } from "./queue.ts";

/** How often what is queued is offered to a kernel that takes none, or not all, of it: a second or more. */
const SUBMIT_TRIES = 100;
const SUBMIT_PAUSE_MS = 10;
const TAKE_BACK_ROUNDS = 50;
const TAKE_BACK_ROUND_NS = 1e6;
/** How long the confirmation of commits may wait for a request to come with it. */
const CONFIRM_NS = 100e6;

/**
 * Serves until the kernel takes the queue back or the server lets go of it; then every commit has
 * been submitted. `onDrained` is called after every round that leaves a draining queue without work,
 * when all that was begun is committed and with the kernel.
 * Throws when the ring or the queue fails: its caller must end the process.
 */
export function pump(ring: Ring, queue: Queue, progress: Progress, onDrained: () => void): void {
  let served: number;
  do {
    while (!queue.finished) {
      round(ring, queue, progress, 1);
      if (queue.drained) submitAll(ring, queue, progress);
      // Unless it was told to stay meanwhile.
      if (queue.drained) onDrained();
    }
    // The last commits leave. What has been delivered meanwhile, nobody else could answer any more.
    served = queue.served;
    round(ring, queue, progress, 0);
    submitAll(ring, queue, progress);
    awaitTakeBack(ring, queue, progress);
  } while (!queue.finished || queue.served !== served);
}

/**
 * A kernel that is short of memory takes none of what is queued, or a part. A commit that stays behind when
 * the ring closes is a request that nobody has answered: then the process must end instead.
 */
function submitAll(ring: Ring, queue: Queue, progress: Progress): void {
  for (let tries = 0; ring.unsubmitted > 0; tries++) {
    assertSubmitting(ring, tries);
    if (tries > 0) Bun.sleepSync(SUBMIT_PAUSE_MS);
    round(ring, queue, progress, 0);
  }
}

/** Throws KernelError when the last entries have been offered `tries` times, and that is enough. */
export function assertSubmitting(ring: Pick<Ring, "unsubmitted">, tries: number): void {
  if (tries < SUBMIT_TRIES) return;
  const message = `The kernel does not take the last ${ring.unsubmitted} entries of a queue's ring`;
  throw new KernelError(message, ERRNO.EAGAIN);
}

/**
 * The kernel takes tags back one by one, and its own log gets a warning when the ring closes half-way
 * (7.3, ublk_uring_cmd_cancel_fn). Not for long: nothing hangs on it.
 */
function awaitTakeBack(ring: Ring, queue: Queue, progress: Progress): void {
  for (let n = 0; n < TAKE_BACK_ROUNDS && queue.finished && queue.isBeingTakenBack; n++) {
    round(ring, queue, progress, 1, TAKE_BACK_ROUND_NS);
  }
}

/**
 * Submits what is queued, waits until `count` completions are there or `timeoutNs` is over (0: never),
 * and hands them out.
 */
function round(ring: Ring, queue: Queue, progress: Progress, count: 0 | 1, timeoutNs = 0): void {
  const confirming = queue.flush();
  progress.idle(queue.served);
  const result =
    confirming === 0
      ? ring.submitAndWait(count, timeoutNs)
      : ring.submitAndWait(count + confirming, CONFIRM_NS);
  progress.busy();
  assertEntered(result);
  ring.reap(queue.onCompletion);
  assertNotRefused(queue);
}

/** Throws KernelError for a result of io_uring_enter after which the next round would do no better. */
export function assertEntered(result: number): void {
  if (
    result < 0 &&
    result !== -ERRNO.EINTR &&
    result !== -ERRNO.EAGAIN &&
    result !== -ERRNO.EBUSY &&
    result !== -ERRNO.ETIME
  ) {
    throw new KernelError(`io_uring_enter failed: ${errnoName(-result)}`, -result);
  }
}
