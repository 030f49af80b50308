// Entry of a thread that serves a disk of functions, which may return promises, a target's file or a
// target with filters: one queue or several, on one ring. As in worker.ts nothing may fail quietly.

import { KernelError, messageOf, placeOf, stackOf, UblkError } from "./errors.ts";
import { errnoName } from "./ffi/errno.ts";
import { _exit, gettid, nameThread, sched_setaffinity } from "./ffi/libc.ts";
import { loadLiburing } from "./ffi/liburing.ts";
import { IORING_SETUP } from "./ffi/uring.ts";
import { liftTarget, openFilters } from "./filters/open.ts";
import type { Layer } from "./filters/over.ts";
import { ioTimeoutMs, placeOfCall as placeIn } from "./filters/stack.ts";
import { AsyncPump } from "./queue/async-pump.ts";
import { AsyncHandler, type Call, CALLS } from "./queue/async.ts";
import { openBuffers, reserveBuffers } from "./queue/buffers.ts";
import { Descriptors } from "./queue/descs.ts";
import { FailureLog } from "./queue/failure-log.ts";
import { FlushGroup } from "./queue/flush-group.ts";
import { Progress } from "./queue/progress.ts";
import type {
  FromWorker,
  OpenDisk,
  Order,
  Prepare,
  Prime,
  ToScriptWorker,
} from "./queue/protocol.ts";
import { assertNotRefused, Queue } from "./queue/queue.ts";
import type { TagMemory } from "./queue/tag-memory.ts";
import { TagViews } from "./queue/tag-views.ts";
import { Ring } from "./ring/ring.ts";
import { isReadOnly } from "./script/disk.ts";
import { closeInstance, flushInstance, openInstance } from "./script/instance.ts";
import type { ScriptSpec } from "./script/target.ts";
import { tryWrite } from "./write.ts";

declare const self: Worker & {
  onmessage: ((event: MessageEvent<ToScriptWorker>) => void) | null;
};

/** SQEs that a request becomes besides its commit: NEED_GET_DATA. */
const MORE_SQES = 1;
/** The char device's place among the ring's registered files. */
const CHAR_FILE = 0;
const BEATS_PER_STALL = 10;
const BEAT_MS_MAX = 1000;
const BEAT_MS_MIN = 20;
/** How long `close` may take when the record sets no limit. */
const CLOSE_MS_MAX = 30_000;
const FATAL_EXIT = 70;
const MAY_BE_LOST = "what was written since the last flush may be lost";

interface Opened extends Layer {
  readonly perQueue: boolean;
  /** 0: a request may take for ever. */
  readonly ioTimeoutMs: number;
  readonly placeOfCall: (call: string) => string;
  readonly progress: Progress;
  /** Where its functions are written: looked up before it is served, because the sources may lie on it. */
  readonly places: ReadonlyMap<Call, string>;
}

interface Prepared {
  readonly job: Prepare;
  readonly ring: Ring;
  /** One a queue. */
  readonly memories: readonly TagMemory[];
  readonly flushes: FlushGroup;
}

interface Lane {
  readonly queue: Queue;
  readonly handler: AsyncHandler;
  readonly descriptors: Descriptors;
}

let opened: Opened | undefined;
let prepared: Prepared | undefined;
let lanes: readonly Lane[] = [];
let pump: AsyncPump | undefined;
/** What nobody caught, before there was a queue to answer with it. */
let stray: UblkError | undefined;

const report = (message: FromWorker) => self.postMessage(message);
const onNote = (text: string) => report({ kind: "note", text });

async function open(job: OpenDisk): Promise<void> {
  const { filters, context } = job;
  const progress = new Progress(job.progressAddress);
  guard(job.target, progress);
  const layer = await openFilters(filters, await openTarget(job), context);
  if (stray !== undefined) throw stray;
  opened = {
    ...layer,
    perQueue: filters.length === 0 && job.spec["perQueue"] === true,
    ioTimeoutMs: ioTimeoutMs(job),
    placeOfCall: (call) => placeIn(job, call),
    progress,
    places: new Map(Object.values(CALLS).map((call) => [call, placeIn(job, call)])),
  };
  report({ kind: "opened", geometry: layer.geometry });
}

function openTarget({ target, spec, base, liburing, context }: OpenDisk): Promise<Layer> {
  if (base === undefined) return openInstance(target, spec as unknown as ScriptSpec, context);
  // What main has opened main closes.
  return liftTarget({ ...base, target, spec, liburing, close: () => {}, note: onNote });
}

/** Whatever ends the target's code unexpectedly ends the process, once its disk is live. */
function guard(target: string, progress: Progress): void {
  const ended = (error: unknown) => {
    if (lanes.length === 0) {
      stray ??= new UblkError(`${placeOf(error) ?? target}: nobody caught: ${messageOf(error)}`);
      return;
    }
    if (!progress.isLive) progress.markBroken();
    // Each side marks its own first and then looks at the other's: starting.ts has the reason.
    if (progress.isLive) return die(error);
    report({ kind: "broken", message: stackOf(error) });
    refuse();
  };
  process.on("uncaughtException", ended).on("unhandledRejection", ended);
  process.exit = (code) => {
    const error = new Error(`the target called process.exit(${code ?? ""})`);
    if (progress.isLive) return die(error);
    throw error;
  };
}

function prepare(job: Prepare): Prepared {
  nameThread(`ublk${job.deviceId}q${job.queueId}`);
  if (stray !== undefined) throw stray;
  const { depth, ioBufBytes: bytesPerTag, mode } = job;
  const entries = job.queueIds.length * depth * (1 + MORE_SQES);
  const ring = new Ring({
    liburing: loadLiburing(job.liburing),
    entries: Math.min(32768, entries),
    cqEntries: Math.min(65536, entries + 16),
    flags: IORING_SETUP.SINGLE_ISSUER | IORING_SETUP.DEFER_TASKRUN,
  });
  ring.registerRingFd();
  // A place for the char device: a registered file costs less with every command.
  ring.registerFiles([-1]);
  const options = { mode, ring, depth, bytesPerTag, data: "address" } as const;
  // A target that sees addresses runs in modes that have memory.
  const memories = job.queueIds.map(() => reserveBuffers(options)!);
  const { disk, perQueue } = opened!;
  const flushes = new FlushGroup({
    name: `ublk-bun ${job.deviceId}`,
    member: job.queueId,
    members: perQueue ? job.queues : 1,
    flush: () => flushInstance(disk),
  });
  return { job, ring, memories, flushes };
}

/** Fetches every tag of its queues and serves until they are over. */
async function serve({ charFd, affinity }: Prime): Promise<void> {
  const { job, ring } = prepared!;
  const { progress } = opened!;
  ring.setFile(CHAR_FILE, charFd);
  if (affinity.length > 0 && job.queueIds.length === 1) sched_setaffinity(0, affinity);
  const failures = new FailureLog((text) => report({ kind: "log", text }));
  let owesDrained = false;
  let orders = 0;
  const onOrder = (order: Order) => {
    owesDrained = order === "drain";
    orders++;
    if (order === "refuse") refuse();
    else for (const { queue } of lanes) queue[order]();
  };
  lanes = job.queueIds.map((_, lane) => openLane(lane, { charFd, failures, onOrder }));
  const leave = () => {
    pump?.[Symbol.dispose]();
    ring[Symbol.dispose]();
    for (const { descriptors } of lanes) descriptors[Symbol.dispose]();
    // The buffers go with the process: the target's timers and promises go on.
  };
  /** What was answered must be where a successor finds it, before anybody counts on that. */
  const tellDrained = async () => {
    const heard = orders;
    const unflushed = await flushedOrWhyNot();
    // An order may have come meanwhile: nobody waits for this any more.
    if (heard !== orders) return;
    report({ kind: "drained", ...(unflushed !== undefined && { unflushed }) });
  };
  pump = new AsyncPump({
    ring,
    queues: lanes.map(({ queue }) => queue),
    handlers: lanes.map(({ handler }) => handler),
    progress,
    beatMs: beatOf(job),
    onDrained: () => {
      if (!owesDrained) return;
      owesDrained = false;
      void tellDrained();
    },
  });
  try {
    if (stray !== undefined) throw stray;
    for (const { queue, handler } of lanes) queue.prime(handler);
    fetchAll(ring);
  } catch (error) {
    leave();
    return report({ kind: "failed", ...describe(error) });
  }
  report({ kind: "primed" });
  Bun.unsafe.setJITPolicy(1);
  await pump.run();
  await closeDisk();
  progress.idle(lanes.reduce((sum, { queue }) => sum + queue.served, 0));
  if (!lanes.some(({ queue }) => queue.isLetGo)) leave();
  report({ kind: "gone" });
}

interface LaneOptions {
  readonly charFd: number;
  readonly failures: FailureLog;
  readonly onOrder: (order: Order) => void;
}

function openLane(lane: number, { charFd, failures, onOrder }: LaneOptions): Lane {
  const { job, ring, memories, flushes } = prepared!;
  const { disk, ioTimeoutMs: timeoutMs, places, progress } = opened!;
  const { depth, mode, ioBufBytes: bytesPerTag } = job;
  const id = job.queueIds[lane]!;
  const memory = memories[lane]!;
  const descriptors = new Descriptors(charFd, id, depth, job.ioDescBytes);
  const common = { ring, depth, charFile: CHAR_FILE, descriptors };
  const data = { mode, data: "address", bytesPerTag, memory, charFd } as const;
  const buffers = openBuffers({ ...common, ...data, queueId: id });
  const queue = new Queue({ ...common, id, lane, buffers, onOrder, onNote });
  const handler = new AsyncHandler({
    queue,
    disk,
    flush: () => flushes.flushAll(),
    views: new TagViews(depth, bytesPerTag, (tag) => memory.address(tag)),
    isReadOnly: isReadOnly(disk),
    ioTimeoutMs: timeoutMs,
    failures,
    places,
    onCall: (op) => progress.markCall(op),
    onSettled: () => pump?.call(),
  });
  return { queue, handler, descriptors };
}

/** Submits the FETCHes and hears at once which the kernel refuses. */
function fetchAll(ring: Ring): void {
  const result = ring.submitAndWait(0);
  if (result < 0)
    throw new KernelError(`Cannot submit the FETCHes: ${errnoName(-result)}`, -result);
  ring.reap(pump!.onCompletion);
  for (const { queue } of lanes) assertNotRefused(queue);
}

/** Answers everything with EIO from now on. */
function refuse(): void {
  for (const { queue, handler } of lanes) {
    handler.abandon();
    queue.refuse();
  }
  pump?.call();
}

/** Flushes this instance: each queue's thread does its own. */
async function flushedOrWhyNot(): Promise<string | undefined> {
  const { disk, placeOfCall } = opened!;
  try {
    await flushInstance(disk);
    return undefined;
  } catch (error) {
    return `${placeOf(error) ?? placeOfCall("flush")}: flush failed: ${messageOf(error)}`;
  }
}

/** What was written must be where the next server finds it, before the kernel lets that one begin. */
async function closeDisk(): Promise<void> {
  const { disk, placeOfCall, ioTimeoutMs: timeoutMs } = opened!;
  const limitMs = timeoutMs || CLOSE_MS_MAX;
  const closed = async () => {
    await closeInstance(disk, () => prepared!.flushes.close());
    return "closed" as const;
  };
  try {
    const outcome = await Promise.race([closed(), Bun.sleep(limitMs)]);
    if (outcome !== "closed") {
      const text = `${placeOfCall("close")}: close has not ended after ${limitMs / 1000} s`;
      report({ kind: "log", text: `${text}; ${MAY_BE_LOST}` });
    }
  } catch (error) {
    report({ kind: "log", text: `closing the disk failed, ${MAY_BE_LOST}: ${stackOf(error)}` });
  }
}

function beatOf({ stallTimeoutMs }: Prepare): number {
  const beatMs = Math.min(BEAT_MS_MAX, (stallTimeoutMs || Infinity) / BEATS_PER_STALL);
  return Math.max(
    BEAT_MS_MIN,
    Math.min(beatMs, (opened!.ioTimeoutMs || Infinity) / BEATS_PER_STALL),
  );
}

function die(error: unknown): never {
  tryWrite(2, `queue worker died: ${stackOf(error)}\n`);
  return _exit(FATAL_EXIT);
}

self.onmessage = async ({ data }: MessageEvent<ToScriptWorker>) => {
  if (data.kind === "prime") {
    try {
      return await serve(data);
    } catch (error) {
      return die(error);
    }
  }
  try {
    if (data.kind === "open") return await open(data);
    prepared = prepare(data);
    report({ kind: "prepared", threadId: gettid(), ringFd: prepared.ring.fd });
  } catch (error) {
    report({ kind: "failed", ...describe(error) });
  }
};

type Failed = FromWorker & { readonly kind: "failed" };

function describe(error: unknown): Pick<Failed, "message" | "hint" | "errno" | "exitCode"> {
  return {
    message: messageOf(error),
    hint: error instanceof UblkError ? error.hint : undefined,
    errno: error instanceof KernelError ? error.errno : 0,
    ...(error instanceof UblkError && { exitCode: error.exitCode }),
  };
}
