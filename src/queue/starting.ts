// What a target that throws does while its device is being started.

import type { RingHandler } from "../target.ts";
import type { Progress } from "./progress.ts";
import type { Queue } from "./queue.ts";

export interface StartingOptions {
  readonly queue: Queue;
  readonly progress: Progress;
  /** Hears of the exception; from then on the queue refuses every request. */
  readonly onBroken: (error: unknown) => void;
}

/**
 * A handler that becomes `handler` at the first request after START_DEV. Until then an exception
 * must not end the process: Linux 6.12 reads the partition table inside START_DEV, and with a dead
 * server that read, START_DEV and the process would hang in the kernel for ever.
 */
export function whileStarting(handler: RingHandler, options: StartingOptions): RingHandler {
  const { queue, progress, onBroken } = options;
  const guarded = (step: () => void) => {
    if (progress.isLive) {
      queue.serveWith(handler);
      return step();
    }
    try {
      step();
    } catch (error) {
      progress.markBroken();
      // Live after all, and main has not seen the mark: it is an ordinary crash.
      if (progress.isLive) throw error;
      onBroken(error);
      queue.refuse();
    }
  };
  return {
    kind: "ring",
    start: (tag) => guarded(() => handler.start(tag)),
    finish: (tag, step, result) => guarded(() => handler.finish(tag, step, result)),
    fetching: (tag) => handler.fetching?.(tag),
  };
}
