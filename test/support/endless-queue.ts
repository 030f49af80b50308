// A queue without a driver that never runs dry: its ring is real, its commands fail for want of a char
// device, and each failed commit is taken for the next request on its tag. What is left is what a served
// request costs in the ring, the queue and the target.

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
import { Queue } from "../../src/queue/queue.ts";
import { TagMemory } from "../../src/queue/tag-memory.ts";
import { KIND } from "../../src/queue/tag.ts";
import { Ring } from "../../src/ring/ring.ts";
import type { Backing, Spec, Target } from "../../src/target.ts";

const BLOCK_BYTES = 4096;
const DESC_BYTES = ublksrv_io_desc.sizeBytes;
/** As in queue/batch.ts and queue/batch-memory.ts. */
const STEP = { prep: 1, commit: 2, fetch: 3 } as const;
const ELEMENT_BYTES = 16;
const TAGS_PER_BUFFER = 128;
const BUFFERS = 32;

export interface EndlessOptions {
  readonly target: Target;
  readonly spec: Spec;
  readonly backing: Backing;
  readonly depth: number;
  readonly isBatch?: boolean;
}

export class EndlessQueue implements Disposable {
  readonly queue: Queue;
  readonly #ring: Ring;
  readonly #progress: Progress;
  readonly #dispose: () => void;
  readonly #batch: BatchMemory | undefined;
  #buffer = 0;

  constructor({ target, spec, backing, depth, isBatch = false }: EndlessOptions) {
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
    const mode = { mode: "copy", data, memory, bytesPerTag, queueId: 0, charFd } as const;
    const buffers = openBuffers({ ...common, ...mode });
    const options = { ...common, id: 0, buffers, onWake: () => {}, onNote: () => {} };
    this.#batch = isBatch ? new BatchMemory(ring, depth) : undefined;
    this.queue = this.#batch
      ? new BatchQueue({ ...options, mode: "copy", memory: this.#batch })
      : new Queue(options);
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
    const { facts, fds } = backing;
    this.queue.prime(target.serve(spec, { facts, fds, queue: this.queue }));
  }

  /** Serves `count` requests and some more, the way pump.ts does. */
  serve(count: number): void {
    const { queue } = this;
    const end = (queue.served + count) | 0;
    while (((end - queue.served) | 0) > 0) {
      queue.flush();
      this.#progress.idle(queue.served);
      assert(this.#ring.submitAndWait(1) >= 0, "the ring works");
      this.#progress.busy();
      this.#ring.reap(this.#onCompletion);
    }
  }

  [Symbol.dispose](): void {
    this.#dispose();
  }

  readonly #onCompletion = (lo: number, hi: number, result: number, flags: number): void => {
    if (hi !== KIND.ublk && hi !== KIND.batch)
      return this.queue.onCompletion(lo, hi, result, flags);
    assert(result === -ERRNO.EBADF, "nobody is there to take a command");
    if (hi === KIND.ublk) this.queue.onCompletion(lo, hi, 0, 0);
    else if (lo === STEP.prep) this.#arrive(lo);
    else if (lo === STEP.commit) this.#arrive(lo);
  };

  /** The elements under way are taken, and their tags come back with the next requests. */
  #arrive(step: number): void {
    const { elements, tags } = this.#batch!;
    const queue = this.queue as BatchQueue;
    const from = queue["sentAt"];
    const count = queue["sent"];
    queue.onCompletion(step, KIND.batch, step === STEP.prep ? 0 : count * ELEMENT_BYTES, 0);
    for (let done = 0; done < count; done += TAGS_PER_BUFFER) {
      const length = Math.min(TAGS_PER_BUFFER, count - done);
      const first = this.#batch!.firstTag(this.#buffer);
      for (let i = 0; i < length; i++) {
        tags[first + i] = elements[from + (done + i) * (ELEMENT_BYTES >> 2)]!;
      }
      const flags = IORING_CQE_F.BUFFER | IORING_CQE_F.MORE | (this.#buffer << 16);
      this.#buffer = (this.#buffer + 1) % BUFFERS;
      queue.onCompletion(STEP.fetch, KIND.batch, length * 2, flags);
    }
  }
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
