// The queue Workers of a device, as the main thread sees them: started, primed, watched, gone.

import { existsSync } from "../builtin.ts";
import type { Control } from "../control/control.ts";
import { assert, EXIT, KernelError, UblkError } from "../errors.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import { close, pidfd_open, PIDFD_THREAD } from "../ffi/libc.ts";
import { mapMemory, type MappedMemory } from "../ffi/memory.ts";
import { log } from "../log.ts";
import { Progress, PROGRESS_LINE_BYTES } from "../queue/progress.ts";
import {
  type FromWorker,
  type OpenDisk,
  type Order,
  ORDERS,
  type Prepare,
} from "../queue/protocol.ts";
import { KIND } from "../queue/tag.ts";
import { spawnScriptWorker, spawnWorker } from "../spawn.ts";
import type { Geometry } from "../target.ts";
import { within } from "./deadline.ts";

const POLLIN = 0x1;
const THREAD_CHECK_MS = 1000;
const PAGE_BYTES = 4096;
/** A stalled queue is seen after this many looks at it: a suspended machine is no stall. */
const STALL_LOOKS = 8;
/** So long the last word of a thread may be on its way. */
const LAST_WORD_MS = 1000;
const ORDER_TRIES = 10;
const ORDER_PAUSE_MS = 10;

export interface WorkersOptions {
  readonly control: Control;
  /** The most that there will be. */
  readonly queues: number;
  /** 0: no watch. */
  readonly stallTimeoutMs: number;
  /** A Worker is lost: must end the process. */
  readonly onFatal: (reason: string) => never;
  /** A target threw before the device was live; its queue answers with EIO since. */
  readonly onBroken: (reason: string) => void;
  /** A target's function that does not return, in words, by its operation. */
  readonly describeCall: (op: number) => string;
}

/** What threads with an event loop open. */
export interface OpenAll extends Omit<OpenDisk, "kind" | "context" | "progressAddress"> {
  readonly context: Omit<OpenDisk["context"], "queueId">;
  /** One thread for all queues, or one each. */
  readonly hosting: "one" | "each";
  readonly timeoutMs: number;
}

/** What all Workers of a device are told; the rest is per queue. */
export type PrepareAll = Omit<
  Prepare,
  "kind" | "queueId" | "queueIds" | "progressAddress" | "stallTimeoutMs"
>;

interface QueueWorker {
  readonly queueId: number;
  readonly worker: Worker;
  readonly progress: Progress;
  ringFd: number;
  threadId: number;
  gone: boolean;
  /** When all it was told so far has arrived. */
  told: Promise<void>;
}

export class Workers {
  readonly #control: Control;
  readonly #stallTimeoutMs: number;
  readonly #onFatal: (reason: string) => never;
  readonly #onBroken: (reason: string) => void;
  readonly #describeCall: (op: number) => string;
  /** Mapped until the process ends: Workers write to it as long as they live. */
  readonly #page: MappedMemory;
  readonly #workers: QueueWorker[] = [];
  #opened: { readonly all: OpenAll; readonly geometry: Geometry } | undefined;
  #waiting = new Map<number, (message: FromWorker) => void>();
  readonly #noted = new Set<string>();
  #primed = false;
  #live = false;
  readonly #allGone = Promise.withResolvers<void>();
  /** Resolves when no Worker has anything left to do; what it was told to leave stays the process's. */
  readonly gone: Promise<void> = this.#allGone.promise;

  constructor({ control, queues, stallTimeoutMs, ...hearers }: WorkersOptions) {
    this.#control = control;
    this.#page = mapMemory(Math.ceil((queues * PROGRESS_LINE_BYTES) / PAGE_BYTES) * PAGE_BYTES);
    this.#stallTimeoutMs = stallTimeoutMs;
    this.#onFatal = hearers.onFatal;
    this.#onBroken = hearers.onBroken;
    this.#describeCall = hearers.describeCall;
  }

  /** Starts one Worker a queue: they load their code while whoever knows the number sees to the rest. */
  start(queues: number): void {
    for (let queueId = 0; queueId < queues; queueId++) this.#start(queueId, spawnWorker);
  }

  /**
   * Opens the disk of a target's file in the first of its threads; `prepare` opens the others. Throws
   * what the file does, or when it does not end in time: it may be beyond reach then.
   */
  async open(all: OpenAll): Promise<Geometry> {
    const geometry = await this.#open(0, all);
    this.#opened = { all, geometry };
    return geometry;
  }

  /** Starts the Workers that there are not yet, and waits until each has all that it needs ready. */
  async prepare(common: PrepareAll): Promise<void> {
    const ids = Array.from({ length: common.queues }, (_, queueId) => queueId);
    const isOne = this.#opened?.all.hosting === "one";
    const groups = isOne ? [ids] : ids.map((queueId) => [queueId]);
    await Promise.all(groups.map((queueIds) => this.#prepare(queueIds, common)));
    assert(this.#workers.length === groups.length, "every Worker serves");
  }

  async #open(
    queueId: number,
    { hosting: _hosting, timeoutMs, ...all }: OpenAll,
  ): Promise<Geometry> {
    const progressAddress = this.#progressAddress(queueId);
    const { worker } = this.#start(queueId, spawnScriptWorker);
    const answered = this.#next(queueId);
    const context = { ...all.context, queueId };
    const job: OpenDisk = { kind: "open", ...all, context, progressAddress };
    worker.postMessage(job);
    const answer = await within(timeoutMs, answered);
    if (answer === "late") {
      const parts = [all.target, ...all.filters.map(({ name }) => name)];
      throw new UblkError(`${parts.join(" with ")}: opening the disk does not end`, {
        exitCode: EXIT.timedOut,
        hint: "nothing was changed; a target that takes long to open needs a longer --timeout",
      });
    }
    if (answer.kind === "opened") return answer.geometry;
    if (answer.kind !== "failed") return this.#onFatal(`queue ${queueId}: ${answer.kind} early`);
    const { message, hint, exitCode } = answer;
    throw new UblkError(message, {
      ...(hint !== undefined && { hint }),
      ...(exitCode !== undefined && { exitCode }),
    });
  }

  async #prepare(queueIds: readonly number[], common: PrepareAll): Promise<void> {
    const [queueId = 0] = queueIds;
    if (this.#opened !== undefined && queueId > 0) {
      const geometry = await this.#open(queueId, this.#opened.all);
      if (!Bun.deepEquals(geometry, this.#opened.geometry)) {
        throw new UblkError(`${this.#opened.all.target}: its instances are not of the same shape`);
      }
    }
    const queueWorker =
      this.#workers.find((each) => each.queueId === queueId) ?? this.#start(queueId, spawnWorker);
    const job: Prepare = {
      kind: "prepare",
      ...common,
      queueId,
      queueIds,
      progressAddress: this.#progressAddress(queueId),
      stallTimeoutMs: this.#stallTimeoutMs,
    };
    const answered = this.#next(queueId);
    queueWorker.worker.postMessage(job);
    const answer = await answered;
    if (answer.kind === "failed") {
      throw new UblkError(
        `Queue ${queueId} cannot be prepared: ${answer.message}`,
        answer.hint === undefined ? {} : { hint: answer.hint },
      );
    }
    if (answer.kind !== "prepared") return this.#onFatal(`queue ${queueId}: ${answer.kind} early`);
    queueWorker.ringFd = answer.ringFd;
    queueWorker.threadId = answer.threadId;
    this.#watchThread(queueWorker);
  }

  /** Lets every Worker fetch its queue's tags from the open char device, and serve. */
  async prime(charFd: number, affinities: readonly Uint8Array[]): Promise<void> {
    this.#primed = true;
    const priming = this.#workers.map(async ({ queueId, worker }) => {
      const answered = this.#next(queueId);
      const affinity = affinities[queueId] ?? new Uint8Array();
      worker.postMessage({ kind: "prime", charFd, affinity });
      const answer = await answered;
      if (answer.kind === "failed") {
        throw new KernelError(
          answer.message,
          answer.errno,
          answer.hint ? { hint: answer.hint } : {},
        );
      }
    });
    await Promise.all(priming);
    this.#watchStalls();
  }

  /**
   * The device is started: from now on an exception in a target ends the process. False when there
   * was one before; onBroken hears of it, if it has not already.
   */
  live(): boolean {
    for (const { progress } of this.#workers) progress.markLive();
    this.#live = this.#workers.every(({ progress }) => !progress.isBroken);
    return this.#live;
  }

  /**
   * Lets every Worker end what its target has begun and keep what is new; resolves when all have, with
   * why a flush failed, where one did.
   */
  async drain(): Promise<{ readonly unflushed: string | undefined }> {
    const drained = this.#workers.map(({ queueId, gone }) =>
      gone ? undefined : this.#next(queueId),
    );
    this.#tell("drain");
    const answers = (await Promise.race([Promise.all(drained), this.gone])) ?? [];
    const failed = answers.find((answer) => answer?.kind === "drained" && answer.unflushed);
    return { unflushed: failed?.kind === "drained" ? failed.unflushed : undefined };
  }

  /** Takes `drain` back. */
  stay(): void {
    this.#tell("stay");
  }

  /**
   * Tells every Worker to end what its target has begun, and to start nothing new. When all are `gone` the
   * process must end: only that gives the rings back.
   */
  leave(): void {
    this.#finish("leave");
  }

  /** Tells every Worker that the disk is gone; the device can be closed when all are `gone`. */
  end(): void {
    this.#finish("end");
  }

  #finish(order: Order): void {
    if (this.#primed) this.#tell(order);
    else this.#allGone.resolve();
  }

  /** Tells every Worker to answer all requests with EIO: whoever waits for one gets on. */
  refuse(): void {
    if (this.#primed) this.#tell("refuse");
  }

  #tell(order: Order): void {
    for (const worker of this.#workers) {
      // One after the other: a `drain` that is offered again must not come behind its `stay`.
      worker.told = worker.told.then(() => this.#order(worker, order));
    }
  }

  /** An order that does not arrive would leave requests unanswered, with nobody to notice. */
  async #order(worker: QueueWorker, order: Order): Promise<void> {
    if (worker.gone) return;
    let result = 0;
    for (let tries = 0; tries < ORDER_TRIES; tries++) {
      result = await this.#control.wake(worker.ringFd, ORDERS.indexOf(order), KIND.wake);
      if (result >= 0) return;
      if (result !== -ERRNO.ENOMEM && result !== -ERRNO.EAGAIN) break;
      // There may be memory for it in a moment.
      await Bun.sleep(ORDER_PAUSE_MS);
    }
    // It may be done, and have said so.
    await Bun.sleep(LAST_WORD_MS);
    if (worker.gone) return;
    this.#onFatal(`queue ${worker.queueId} cannot be told to ${order}: ${errnoName(-result)}`);
  }

  #progressAddress(queueId: number): number {
    return this.#page.address + queueId * PROGRESS_LINE_BYTES;
  }

  #start(queueId: number, spawn: (name: string) => Worker): QueueWorker {
    const worker = spawn(`queue ${queueId}`);
    const progress = new Progress(this.#progressAddress(queueId));
    const self: QueueWorker = {
      queueId,
      worker,
      progress,
      ringFd: -1,
      threadId: 0,
      gone: false,
      told: Promise.resolve(),
    };
    this.#workers.push(self);
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#heard(self, data);
    // A Worker that ends, for whatever reason and with whatever code, leaves its tags hanging.
    worker.onerror = (event) => this.#lost(self, event.message);
    worker.addEventListener("close", () => this.#lost(self, "its thread ended"));
    return self;
  }

  #next(queueId: number): Promise<FromWorker> {
    const { promise, resolve } = Promise.withResolvers<FromWorker>();
    this.#waiting.set(queueId, resolve);
    return promise;
  }

  #heard(worker: QueueWorker, message: FromWorker): void {
    if (message.kind === "gone" || message.kind === "failed") {
      worker.gone = true;
      if (this.#workers.every(({ gone }) => gone)) this.#allGone.resolve();
    }
    if (message.kind === "gone") return;
    if (message.kind === "note") return this.#note(message.text);
    if (message.kind === "log") return void log.warn(message.text);
    if (message.kind === "broken") {
      const reason = `queue ${worker.queueId}: ${message.message}`;
      return this.#live ? this.#onFatal(reason) : this.#onBroken(reason);
    }
    const answer = this.#waiting.get(worker.queueId);
    this.#waiting.delete(worker.queueId);
    answer?.(message);
  }

  /** What every queue finds out for itself is said once. */
  #note(text: string): void {
    if (this.#noted.has(text)) return;
    this.#noted.add(text);
    log.warn(text);
  }

  #lost({ queueId, gone }: QueueWorker, why: string): void {
    if (!gone) this.#onFatal(`queue ${queueId} is lost: ${why}`);
  }

  /** A thread that exits by itself raises no event in the runtime: the kernel must tell. */
  #watchThread(worker: QueueWorker): void {
    const pidfd = pidfd_open(worker.threadId, PIDFD_THREAD);
    if (pidfd >= 0) {
      void this.#control.whenReady(pidfd, POLLIN).then(() => {
        close(pidfd);
        this.#lost(worker, "its thread is gone");
      });
      return;
    }
    // Before Linux 6.9 a thread has no such descriptor.
    const path = `/proc/self/task/${worker.threadId}`;
    setInterval(() => {
      if (!existsSync(path)) this.#lost(worker, "its thread is gone");
    }, THREAD_CHECK_MS).unref();
  }

  #watchStalls(): void {
    if (this.#stallTimeoutMs === 0) return;
    const seen = this.#workers.map(() => ({ rounds: 0, looks: 0 }));
    setInterval(() => {
      this.#workers.forEach(({ queueId, progress, gone }, i) => {
        const last = seen[i]!;
        const { rounds, isBusy } = progress;
        last.looks = !gone && isBusy && rounds === last.rounds ? last.looks + 1 : 0;
        last.rounds = rounds;
        if (last.looks < STALL_LOOKS) return;
        const call = progress.call < 0 ? "" : `: ${this.#describeCall(progress.call)}`;
        this.#onFatal(
          `queue ${queueId} has been busy with one round for ${this.#stallTimeoutMs} ms${call}`,
        );
      });
    }, this.#stallTimeoutMs / STALL_LOOKS).unref();
  }
}
