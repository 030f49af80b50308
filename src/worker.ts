// Entry of a queue's thread: prepares ring, buffers and target, fetches, serves, reports.
//
// Nothing here may fail quietly: the kernel keeps waiting for a thread that is gone. Before the
// first FETCH a failure is reported; afterwards it ends the whole process, and the device waits
// for `recover`.

import { KernelError, messageOf, stackOf, UblkError } from "./errors.ts";
import { errnoName } from "./ffi/errno.ts";
import { _exit, gettid, nameThread, sched_setaffinity } from "./ffi/libc.ts";
import { loadLiburing } from "./ffi/liburing.ts";
import { IORING_SETUP } from "./ffi/uring.ts";
import { BatchMemory } from "./queue/batch-memory.ts";
import { BatchQueue } from "./queue/batch.ts";
import { MODE_SQES_MAX, openBuffers, reserveBuffers } from "./queue/buffers.ts";
import { Descriptors } from "./queue/descs.ts";
import { Progress } from "./queue/progress.ts";
import type { FromWorker, Order, Prepare, Prime, ToWorker } from "./queue/protocol.ts";
import { pump } from "./queue/pump.ts";
import { assertNotRefused, Queue } from "./queue/queue.ts";
import { whileStarting } from "./queue/starting.ts";
import type { TagMemory } from "./queue/tag-memory.ts";
import { Ring } from "./ring/ring.ts";
import { dataOf } from "./target.ts";
import { findTarget } from "./targets/index.ts";
import { tryWrite } from "./write.ts";

declare const self: Worker & { onmessage: ((event: MessageEvent<ToWorker>) => void) | null };

interface Prepared {
  readonly job: Prepare;
  readonly ring: Ring;
  readonly memory: TagMemory | undefined;
  /** For a device with batch commands. */
  readonly batch: BatchMemory | undefined;
  readonly progress: Progress;
}

type Failed = FromWorker & { readonly kind: "failed" };

// Until it serves, as little is compiled as at the start of the program (build.ts).
Bun.unsafe.setJITPolicy(10);

let prepared: Prepared | undefined;

const report = (message: FromWorker) => self.postMessage(message);

async function prepare(job: Prepare): Promise<Prepared> {
  await findTarget(job.target).load?.();
  // Seen in top and ps: which thread serves what.
  nameThread(`ublk${job.deviceId}q${job.queueId}`);
  const modeSqes = job.mode === "copy" ? 0 : MODE_SQES_MAX;
  const ring = new Ring({
    liburing: loadLiburing(job.liburing),
    // Room for every tag's fetch, and for every SQE of a full queue's worth of requests.
    entries: Math.min(32768, job.depth * (1 + job.fanOut + modeSqes)),
    cqEntries: Math.min(65536, job.depth * (1 + job.fanOut + modeSqes) + 16),
    flags: IORING_SETUP.SINGLE_ISSUER | IORING_SETUP.DEFER_TASKRUN,
  });
  ring.registerRingFd();
  // The target's, and a place for the char device: a registered file costs less with every command.
  ring.registerFiles([...job.fds, -1]);
  const memory = reserveBuffers(reserveOptions(job, ring));
  const batch = job.isBatch ? new BatchMemory(ring, job.depth) : undefined;
  return { job, ring, memory, batch, progress: new Progress(job.progressAddress) };
}

function reserveOptions({ mode, depth, ioBufBytes, target, spec }: Prepare, ring: Ring) {
  const data = dataOf(findTarget(target), spec);
  return { mode, ring, depth, bytesPerTag: ioBufBytes, data } as const;
}

/** Fetches every tag and serves until the queue is over. */
function serve(ready: Prepared, { charFd, affinity }: Prime): void {
  const { job, ring, memory, batch, progress } = ready;
  // Best effort: a cpuset may forbid it, and the queue works anywhere.
  if (affinity.length > 0) sched_setaffinity(0, affinity);
  const { queueId: id, depth, mode, spec, facts, fds } = job;
  const charFile = fds.length;
  ring.setFile(charFile, charFd);
  const descriptors = new Descriptors(charFd, id, depth, job.ioDescBytes);
  const buffers = openBuffers({
    ...reserveOptions(job, ring),
    memory,
    queueId: id,
    charFd,
    charFile,
    descriptors,
  });
  const onNote = (text: string) => report({ kind: "note", text });
  let owesDrained = false;
  const onDrained = () => {
    if (!owesDrained) return;
    owesDrained = false;
    report({ kind: "drained" });
  };
  const onOrder = (order: Order) => {
    owesDrained = order === "drain";
    queue[order]();
  };
  const options = { id, depth, ring, charFile, descriptors, buffers, onOrder, onNote };
  const queue: Queue = batch
    ? new BatchQueue({ ...options, mode, memory: batch })
    : new Queue(options);
  const leave = () => {
    ring[Symbol.dispose]();
    descriptors[Symbol.dispose]();
    memory?.[Symbol.dispose]();
    batch?.[Symbol.dispose]();
  };
  try {
    const handler = findTarget(job.target).serve(spec, { facts, fds, queue });
    const onBroken = (error: unknown) => report({ kind: "broken", ...describe(error) });
    queue.prime(whileStarting(handler, { queue, progress, onBroken }));
    fetchAll(queue, ring);
  } catch (error) {
    leave();
    return report({ kind: "failed", ...describe(error) });
  }
  report({ kind: "primed" });
  Bun.unsafe.setJITPolicy(1);
  pump(ring, queue, progress, onDrained);
  progress.idle(queue.served);
  if (!queue.isLetGo) leave();
  report({ kind: "gone" });
}

/** Submits the FETCHes and hears at once which the kernel refuses. */
function fetchAll(queue: Queue, ring: Ring): void {
  const result = ring.submitAndWait(0);
  if (result < 0) {
    const message = `Cannot submit the FETCHes of queue ${queue.id}: ${errnoName(-result)}`;
    throw new KernelError(message, -result);
  }
  ring.reap(queue.onCompletion);
  assertNotRefused(queue);
}

function die(error: unknown): never {
  tryWrite(2, `queue worker died: ${stackOf(error)}\n`);
  return _exit(70);
}

self.onmessage = async ({ data }: MessageEvent<ToWorker>) => {
  if (data.kind === "prepare") {
    try {
      prepared = await prepare(data);
      report({ kind: "prepared", threadId: gettid(), ringFd: prepared.ring.fd });
    } catch (error) {
      report({ kind: "failed", ...describe(error) });
    }
    return;
  }
  try {
    serve(prepared!, data);
  } catch (error) {
    die(error);
  }
};

function describe(error: unknown): Pick<Failed, "message" | "hint" | "errno"> {
  return {
    message: messageOf(error),
    hint: error instanceof UblkError ? error.hint : undefined,
    errno: error instanceof KernelError ? error.errno : 0,
  };
}
