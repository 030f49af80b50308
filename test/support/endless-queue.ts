// A queue without a driver that never runs dry: its ring is real, its commands fail for want of a char
// device, and each failed commit is taken for the next request on its tag. The pump is a Worker's, and so
// is the handler. What is left is what a served request costs in pump, ring, queue and target.

import { ftruncateSync } from "node:fs";

import { assert } from "../../src/errors.ts";
import { ERRNO } from "../../src/ffi/errno.ts";
import { close, memfd_create, MFD } from "../../src/ffi/libc.ts";
import { liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { mapFile, viewInt32 } from "../../src/ffi/memory.ts";
import { UBLK_IO_OP, ublksrv_io_desc } from "../../src/ffi/ublk.ts";
import { IORING_CQE_F, IORING_SETUP } from "../../src/ffi/uring.ts";
import { BatchMemory } from "../../src/queue/batch-memory.ts";
import { BatchQueue } from "../../src/queue/batch.ts";
import { openBuffers } from "../../src/queue/buffers.ts";
import { Descriptors } from "../../src/queue/descs.ts";
import { Progress } from "../../src/queue/progress.ts";
import type { Mode } from "../../src/queue/protocol.ts";
import { pump } from "../../src/queue/pump.ts";
import { Queue } from "../../src/queue/queue.ts";
import { whileStarting } from "../../src/queue/starting.ts";
import { TagMemory } from "../../src/queue/tag-memory.ts";
import { KIND } from "../../src/queue/tag.ts";
import { prepNop, setUserData } from "../../src/ring/ops.ts";
import { type OnCompletion, Ring } from "../../src/ring/ring.ts";
import type { Backing, Spec, Target } from "../../src/target.ts";

const BLOCK_BYTES = 4096;
const DESC_BYTES = ublksrv_io_desc.sizeBytes;
/** As in queue/batch.ts and queue/batch-memory.ts. */
const STEP = { prep: 1, commit: 2, fetch: 3 } as const;
const TAGS_PER_BUFFER = 128;
const BUFFERS = 32;
/** user_data of what stands for another request. */
const KIND_OTHER = 99;

export interface EndlessOptions {
  readonly target: Target;
  readonly spec: Spec;
  readonly backing: Backing;
  readonly depth: number;
  readonly isBatch?: boolean;
  /** Default: copy. */
  readonly mode?: Extract<Mode, "copy" | "user-copy">;
}

export class EndlessQueue implements Disposable {
  readonly queue: Queue;
  readonly #ring: Ring;
  readonly #progress: Progress;
  readonly #dispose: () => void;
  readonly #batch: BatchMemory | undefined;
  readonly #deliver: OnCompletion;
  /** In words. */
  readonly #elementSize: number;
  #buffer = 0;
  #end = 0;

  constructor(options: EndlessOptions) {
    const { target, spec, backing, depth, isBatch = false, mode = "copy" } = options;
    const fanOut = target.fanOut?.(spec, backing.geometry) ?? 1;
    const ring = new Ring({
      liburing: loadLiburing(liburingPath()),
      entries: depth * (1 + fanOut),
      cqEntries: depth * (1 + fanOut) + 16,
      flags: IORING_SETUP.SINGLE_ISSUER | IORING_SETUP.DEFER_TASKRUN,
    });
    ring.registerRingFd();
    // A place with nothing in it: what is said to the driver comes back with EBADF.
    ring.registerFiles([...backing.fds, -1]);
    const charFile = backing.fds.length;
    const charFd = memfd_create("descriptors", MFD.CLOEXEC);
    const lengthBytes = Math.ceil((depth * DESC_BYTES) / 4096) * 4096;
    ftruncateSync(charFd, lengthBytes + 4096);
    writeReads(charFd, lengthBytes, depth, backing.geometry.sizeBytes);
    const descriptors = new Descriptors(charFd, 0, depth, DESC_BYTES);
    const { data } = target;
    const bytesPerTag = 512 * 1024;
    const memory = new TagMemory({ depth, bytesPerTag, shared: data === "none" });
    const common = { ring, depth, charFile, descriptors };
    this.#elementSize = mode === "copy" ? 4 : 2;
    // With user-copy the data of a read goes into that memory file, far behind the descriptors.
    const way = { mode, data, memory, bytesPerTag, queueId: 0, charFd };
    const buffers = openBuffers({ ...common, ...way });
    const parts = { ...common, id: 0, buffers, onOrder: () => {}, onNote: () => {} };
    this.#batch = isBatch ? new BatchMemory(ring, depth) : undefined;
    this.queue = this.#batch
      ? new BatchQueue({ ...parts, mode, memory: this.#batch })
      : new Queue(parts);
    this.#ring = ring;
    const page = memfd_create("progress", MFD.CLOEXEC);
    ftruncateSync(page, 4096);
    const progress = mapFile(page, 0, 4096, { readOnly: false });
    close(page);
    this.#progress = new Progress(progress.address);
    this.#dispose = () => {
      for (const each of [ring, descriptors, memory, this.#batch, progress]) {
        each?.[Symbol.dispose]();
      }
      close(charFd);
    };
    this.#deliver = this.queue.onCompletion;
    const flush = this.queue.flush.bind(this.queue);
    Object.assign(this.queue, {
      onCompletion: this.#onCompletion,
      flush: () => {
        const confirming = flush();
        // A driver has other requests by then, and the round ends with those.
        if (confirming > 0) this.#addOther();
        return confirming;
      },
    });
    const { facts, fds } = backing;
    const handler = target.serve(spec, { facts, fds, queue: this.queue });
    const progressAndQueue = { progress: this.#progress, queue: this.queue };
    this.queue.prime(whileStarting(handler, { ...progressAndQueue, onBroken: die }));
    this.#progress.markLive();
  }

  /** Serves `count` requests and some more; then it lets go of the queue, as for an upgrade. */
  serve(count: number): void {
    const { queue } = this;
    this.#end = (queue.served + count) | 0;
    queue["leaving"] = false;
    queue.stay();
    pump(this.#ring, queue, this.#progress, () => {});
  }

  [Symbol.dispose](): void {
    this.#dispose();
  }

  #addOther(): void {
    const { sqes } = this.#ring;
    const at = this.#ring.sqe();
    prepNop(sqes, at);
    setUserData(sqes, at, 0, KIND_OTHER);
  }

  readonly #onCompletion = (lo: number, hi: number, result: number, flags: number): void => {
    if (((this.#end - this.queue.served) | 0) <= 0) this.queue.leave();
    if (hi === KIND_OTHER) return;
    if (hi !== KIND.ublk && hi !== KIND.batch) return this.#deliver(lo, hi, result, flags);
    assert(result === -ERRNO.EBADF, "nobody is there to take a command");
    if (hi === KIND.ublk) this.#deliver(lo, hi, 0, 0);
    else if (lo === STEP.prep) this.#arrive(lo);
    else if (lo === STEP.commit) this.#arrive(lo);
  };

  /** The elements under way are taken, and their tags come back with the next requests. */
  #arrive(step: number): void {
    const { elements, tags } = this.#batch!;
    const queue = this.queue as BatchQueue;
    const from = queue["sentAt"];
    const count = queue["sent"];
    this.#deliver(step, KIND.batch, step === STEP.prep ? 0 : count * this.#elementSize * 4, 0);
    for (let done = 0; done < count; done += TAGS_PER_BUFFER) {
      const length = Math.min(TAGS_PER_BUFFER, count - done);
      const first = this.#batch!.firstTag(this.#buffer);
      for (let i = 0; i < length; i++) {
        tags[first + i] = elements[from + (done + i) * this.#elementSize]!;
      }
      const flags = IORING_CQE_F.BUFFER | IORING_CQE_F.MORE | (this.#buffer << 16);
      this.#buffer = (this.#buffer + 1) % BUFFERS;
      this.#deliver(STEP.fetch, KIND.batch, length * 2, flags);
    }
  }
}

function die(error: unknown): never {
  throw error;
}

/** Descriptors of 4 KiB reads all over the disk. */
function writeReads(fd: number, lengthBytes: number, depth: number, sizeBytes: number): void {
  const memory = mapFile(fd, 0, lengthBytes, { readOnly: false });
  const words = viewInt32(memory.address, lengthBytes);
  const blocks = Math.floor(sizeBytes / BLOCK_BYTES);
  for (let tag = 0; tag < depth; tag++) {
    const at = (tag * DESC_BYTES) >> 2;
    words[at + (ublksrv_io_desc.at.op_flags >> 2)] = UBLK_IO_OP.READ;
    words[at + (ublksrv_io_desc.at.nr_sectors >> 2)] = BLOCK_BYTES / 512;
    words[at + (ublksrv_io_desc.at.start_sector >> 2)] =
      ((tag * 37) % blocks) * (BLOCK_BYTES / 512);
  }
  memory[Symbol.dispose]();
}
