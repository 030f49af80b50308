// A queue without a kernel: a fake ring that records what is submitted and plays completions, and
// descriptors that a test fills.

import { UBLK_IO } from "../../src/ffi/ublk.ts";
import { BatchMemory } from "../../src/queue/batch-memory.ts";
import { BatchQueue } from "../../src/queue/batch.ts";
import { openBuffers } from "../../src/queue/buffers.ts";
import type { Descriptors } from "../../src/queue/descs.ts";
import type { Mode } from "../../src/queue/protocol.ts";
import { type Order, ORDERS } from "../../src/queue/protocol.ts";
import { Queue } from "../../src/queue/queue.ts";
import type { TagMemory } from "../../src/queue/tag-memory.ts";
import { KIND } from "../../src/queue/tag.ts";
import type { Ring } from "../../src/ring/ring.ts";
import type { RingHandler } from "../../src/target.ts";

/** A request as the kernel would describe it. */
export interface Request {
  readonly op: number;
  readonly flags?: number;
  readonly offsetBytes: number;
  readonly lengthBytes: number;
}

export interface Command {
  readonly operation: "fetch" | "commit" | "other";
  readonly queueId: number;
  readonly tag: number;
  readonly result: number;
  readonly address: number;
}

/** Nobody's. */
const CHAR_FD = 1_000_000;
const SLOTS = 8192;
const BUFFER_BYTES = 4096;

export interface FakeOptions {
  readonly id: number;
  readonly depth: number;
  readonly mode?: Mode;
  readonly data?: "none" | "transfer" | "address";
  /** With batch commands: see fake-batch.ts. */
  readonly isBatch?: boolean;
}

export class FakeQueue {
  readonly queue: Queue;
  readonly requests = new Map<number, Request>();
  readonly notes: string[] = [];
  /** Where the queue's provided buffers are, if it has some. */
  protected bufferRing = 0;
  #taken: number[] = [];
  #next = 0;

  constructor({ id, depth, mode = "copy", data = "transfer", isBatch = false }: FakeOptions) {
    // Full of what earlier operations might have left.
    const sqes = new Int32Array(SLOTS * 16).fill(-1);
    const ring = {
      sqes,
      sqe: () => {
        const at = (this.#next++ % SLOTS) * 16;
        this.#taken.push(at);
        return at;
      },
      submit: () => 0,
      registerBufferRing: ({ address }: { address: number }) => {
        this.bufferRing = address;
      },
    };
    const of = (tag: number) => this.requests.get(tag)!;
    const descriptors = {
      op: (tag: number) => of(tag).op,
      flags: (tag: number) => of(tag).flags ?? 0,
      offsetBytes: (tag: number) => of(tag).offsetBytes,
      lengthBytes: (tag: number) => of(tag).lengthBytes,
    };
    const buffers = openBuffers({
      mode,
      data,
      depth,
      ring: ring as unknown as Ring,
      memory: { address: FakeQueue.address } as unknown as TagMemory,
      bytesPerTag: BUFFER_BYTES,
      queueId: id,
      charFd: CHAR_FD,
      charFile: CHAR_FD,
      descriptors,
    });
    const options = {
      id,
      depth,
      ring: ring as unknown as Ring,
      charFile: CHAR_FD,
      descriptors: descriptors as unknown as Descriptors,
      buffers,
      onOrder: (order: Order) => this.queue[order](),
      onNote: (text: string) => this.notes.push(text),
    };
    this.queue = isBatch
      ? new BatchQueue({ ...options, mode, memory: new BatchMemory(options.ring, depth) })
      : new Queue(options);
  }

  /** Beyond 32 bits, as real ones are. */
  static address(tag: number): number {
    return 0x7f1234560000 + tag * BUFFER_BYTES;
  }

  prime(handler: RingHandler): Command[] {
    this.queue.prime(handler);
    return this.submitted();
  }

  /** The kernel delivers a request. */
  deliver(tag: number, request: Request): void {
    this.requests.set(tag, request);
    this.queue.onCompletion(tag, KIND.ublk, 0, 0);
  }

  /** The kernel ends a fetch or commit with an errno. */
  refuse(tag: number, errno: number): void {
    this.queue.onCompletion(tag, KIND.ublk, -errno, 0);
  }

  tell(order: Order): void {
    this.queue.onCompletion(ORDERS.indexOf(order), KIND.wake, 0, 0);
  }

  /** The 16 words of each entry queued since the last call. */
  words(): number[][] {
    const { sqes } = this.queue.ring;
    return this.#taken.splice(0).map((at) => [...sqes.subarray(at, at + 16)]);
  }

  /** The commands queued since the last call. */
  submitted(): Command[] {
    const { sqes } = this.queue.ring;
    return this.#taken.splice(0).map((at) => {
      const word = (i: number) => sqes[at + i]!;
      const operations = new Map([
        [UBLK_IO.FETCH_REQ | 0, "fetch"],
        [UBLK_IO.COMMIT_AND_FETCH_REQ | 0, "commit"],
      ] as const);
      return {
        operation: operations.get(word(2)) ?? "other",
        queueId: word(12) & 0xffff,
        tag: word(12) >>> 16,
        result: word(13),
        address: (word(14) >>> 0) + word(15) * 4294967296,
      };
    });
  }
}
