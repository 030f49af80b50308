// The queue Workers of a device, as the main thread sees them: started, primed, watched, gone.

import { existsSync } from "node:fs";

import type { Control } from "../control/control.ts";
import { assert, KernelError, UblkError } from "../errors.ts";
import { close, pidfd_open, PIDFD_THREAD } from "../ffi/libc.ts";
import { mapMemory } from "../ffi/memory.ts";
import { log } from "../log.ts";
import { Progress, PROGRESS_LINE_BYTES } from "../queue/progress.ts";
import type { FromWorker, Order, Prepare } from "../queue/protocol.ts";
import { KIND } from "../queue/tag.ts";
import { spawnWorker } from "../spawn.ts";

const POLLIN = 0x1;
const THREAD_CHECK_MS = 1000;
/** A stalled queue is seen after this many looks at it: a suspended machine is no stall. */
const STALL_LOOKS = 8;

export interface WorkersOptions {
  readonly control: Control;
  /** 0: no watch. */
  readonly stallTimeoutMs: number;
  /** A Worker is lost: must end the process. */
  readonly onFatal: (reason: string) => never;
  /** A target threw before the device was live; its queue answers with EIO since. */
  readonly onBroken: (reason: string) => void;
}

/** What all Workers of a device are told; the rest is per queue. */
export type PrepareAll = Omit<Prepare, "kind" | "queueId" | "progressAddress"> & {
  readonly queues: number;
};

interface QueueWorker {
  readonly queueId: number;
  readonly worker: Worker;
  readonly port: MessagePort;
  /** The Worker's end of `port`. */
  readonly remotePort: MessagePort;
  readonly progress: Progress;
  ringFd: number;
  threadId: number;
  gone: boolean;
}

export class Workers {
  readonly #control: Control;
  readonly #stallTimeoutMs: number;
  readonly #onFatal: (reason: string) => never;
  readonly #onBroken: (reason: string) => void;
  #workers: QueueWorker[] = [];
  #waiting = new Map<number, (message: FromWorker) => void>();
  readonly #noted = new Set<string>();
  #primed = false;
  #live = false;
  readonly #allGone = Promise.withResolvers<void>();
  /** Resolves when no Worker holds anything of the device any more. */
  readonly gone: Promise<void> = this.#allGone.promise;

  constructor({ control, stallTimeoutMs, onFatal, onBroken }: WorkersOptions) {
    this.#control = control;
    this.#stallTimeoutMs = stallTimeoutMs;
    this.#onFatal = onFatal;
    this.#onBroken = onBroken;
  }

  /** Starts one Worker a queue: they load their code while whoever knows the number sees to the rest. */
  start(queues: number): void {
    // Mapped until the process ends: Workers write to it as long as they live.
    const page = mapMemory(Math.ceil((queues * PROGRESS_LINE_BYTES) / 4096) * 4096);
    this.#workers = Array.from({ length: queues }, (_, queueId) =>
      this.#start(queueId, new Progress(page.address + queueId * PROGRESS_LINE_BYTES)),
    );
  }

  /** Waits until each Worker has ring, buffers and target ready; starts them if nobody has. */
  async prepare({ queues, ...common }: PrepareAll): Promise<void> {
    if (this.#workers.length === 0) this.start(queues);
    assert(this.#workers.length === queues, `${queues} queues have a Worker each`);
    const preparing = this.#workers.map(async (queueWorker) => {
      const { queueId, worker, remotePort, progress } = queueWorker;
      const job: Prepare = {
        kind: "prepare",
        ...common,
        queueId,
        progressAddress: progress.address,
      };
      const answered = this.#next(queueId);
      worker.postMessage(job, [remotePort]);
      const answer = await answered;
      if (answer.kind === "failed") {
        throw new UblkError(
          `Queue ${queueId} cannot be prepared: ${answer.message}`,
          answer.hint === undefined ? {} : { hint: answer.hint },
        );
      }
      if (answer.kind !== "prepared")
        return this.#onFatal(`queue ${queueId}: ${answer.kind} early`);
      queueWorker.ringFd = answer.ringFd;
      queueWorker.threadId = answer.threadId;
      this.#watchThread(queueWorker);
    });
    await Promise.all(preparing);
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

  /** Lets every Worker end what its target has begun and keep what is new; resolves when all have. */
  async drain(): Promise<void> {
    const drained = this.#workers.map(({ queueId, gone }) =>
      gone ? undefined : this.#next(queueId),
    );
    this.#tell({ kind: "drain" });
    await Promise.race([Promise.all(drained), this.gone]);
  }

  /** Takes `drain` back. */
  stay(): void {
    this.#tell({ kind: "stay" });
  }

  /** Tells every Worker to end what its target has begun, start nothing new, and leave. */
  leave(): void {
    if (this.#primed) this.#tell({ kind: "leave" });
    else this.#allGone.resolve();
  }

  /** Tells every Worker to answer all requests with EIO: whoever waits for one gets on. */
  refuse(): void {
    if (this.#primed) this.#tell({ kind: "refuse" });
  }

  #tell(message: Order): void {
    for (const { port, ringFd, gone } of this.#workers) {
      if (gone) continue;
      port.postMessage(message);
      this.#control.wake(ringFd, 0, KIND.wake);
    }
  }

  #start(queueId: number, progress: Progress): QueueWorker {
    const worker = spawnWorker(`queue ${queueId}`);
    const { port1: port, port2: remotePort } = new MessageChannel();
    const ids = { ringFd: -1, threadId: 0 };
    const self = { queueId, worker, port, remotePort, progress, ...ids, gone: false };
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
        this.#onFatal(
          `queue ${queueId} has been busy with one round for ${this.#stallTimeoutMs} ms`,
        );
      });
    }, this.#stallTimeoutMs / STALL_LOOKS).unref();
  }
}
