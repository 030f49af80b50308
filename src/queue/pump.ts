// How a queue's thread lives: asleep in its ring until something completes, one system call a round.

import { KernelError } from "../errors.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import type { Ring } from "../ring/ring.ts";
import type { Progress } from "./progress.ts";
import { describeQueueFailure, type Queue } from "./queue.ts";

/**
 * Serves until the kernel takes the queue back or the server lets go of it; then every commit has
 * been submitted. `onDrained` is called after every round that leaves a draining queue without work.
 * Throws when the ring or the queue fails: its caller must end the process.
 */
export function pump(ring: Ring, queue: Queue, progress: Progress, onDrained: () => void): void {
  let served: number;
  do {
    while (!queue.finished) {
      round(ring, queue, progress, 1);
      if (queue.drained) onDrained();
    }
    // The last commits leave. What has been delivered meanwhile, nobody else could answer any more.
    served = queue.served;
    round(ring, queue, progress, 0);
  } while (!queue.finished || queue.served !== served);
}

/** Submits what is queued, waits until `count` completions are there, and hands them out. */
function round(ring: Ring, queue: Queue, progress: Progress, count: 0 | 1): void {
  progress.idle(queue.served);
  const result = ring.submitAndWait(count);
  progress.busy();
  if (
    result < 0 &&
    result !== -ERRNO.EINTR &&
    result !== -ERRNO.EAGAIN &&
    result !== -ERRNO.EBUSY
  ) {
    throw new KernelError(`io_uring_enter failed: ${errnoName(-result)}`, -result);
  }
  ring.reap(queue.onCompletion);
  if (queue.failure !== 0) {
    throw new KernelError(describeQueueFailure(queue.id, queue.failure), -queue.failure);
  }
}
