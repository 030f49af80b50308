// FakeQueue with batch commands: the fake kernel decodes their elements, and writes tags into the buffers
// that the queue has given it.

import { viewInt32 } from "../../src/ffi/memory.ts";
import { UBLK_IO } from "../../src/ffi/ublk.ts";
import { IORING_CQE_F } from "../../src/ffi/uring.ts";
import type { BatchQueue } from "../../src/queue/batch.ts";
import { KIND } from "../../src/queue/tag.ts";
import { type FakeOptions, FakeQueue, type Request } from "./fake-queue.ts";

export interface BatchCommand {
  readonly operation: "prep" | "commit" | "fetch" | "other";
  readonly queueId: number;
  readonly flags: number;
  readonly elementBytes: number;
  readonly elements: readonly Element[];
  /** user_data. */
  readonly step: number;
}

export interface Element {
  readonly tag: number;
  readonly bufferIndex: number;
  readonly result: number;
  readonly address: number;
}

const FETCH_STEP = 3;
const BUFFERS = 32;
const OPERATIONS = new Map([
  [UBLK_IO.PREP_IO_CMDS | 0, "prep"],
  [UBLK_IO.COMMIT_IO_CMDS | 0, "commit"],
  [UBLK_IO.FETCH_IO_CMDS | 0, "fetch"],
] as const);

const join = (lo: number, hi: number) => (lo >>> 0) + hi * 4294967296;

export class FakeBatch extends FakeQueue {
  /** Buffers taken from the ring so far. */
  #head = 0;

  constructor(options: Omit<FakeOptions, "isBatch">) {
    super({ ...options, isBatch: true });
  }

  get batch(): BatchQueue {
    return this.queue as BatchQueue;
  }

  /** Buffers that the kernel could fill. */
  get buffersLeft(): number {
    const tail = viewInt32(this.bufferRing, 16)[3]! >>> 16;
    return (tail - this.#head) & 0xffff;
  }

  /** Ends the round; what it sends. */
  round(): BatchCommand[] {
    this.queue.flush();
    return this.commands();
  }

  /** The commands queued since the last call. */
  commands(): BatchCommand[] {
    return this.words().map((word) => {
      const elementBytes = (word[13]! >>> 16) & 0xff;
      const operation = OPERATIONS.get(word[2]! as never) ?? "other";
      const count = operation === "prep" || operation === "commit" ? word[13]! & 0xffff : 0;
      return {
        operation,
        queueId: word[12]! & 0xffff,
        flags: word[12]! >>> 16,
        elementBytes,
        elements: count === 0 ? [] : elementsAt(join(word[4]!, word[5]!), count, elementBytes),
        step: word[8]!,
      };
    });
  }

  /** The kernel's answer to a PREP or COMMIT: all of it taken, or what it says else. */
  answer({ elements, elementBytes, step, operation }: BatchCommand, result?: number): void {
    const all = operation === "prep" ? 0 : elements.length * elementBytes;
    this.queue.onCompletion(step, KIND.batch, result ?? all, 0);
  }

  /** One completion of the FETCH that brings these requests. */
  arrive(requests: ReadonlyMap<number, Request>, { isLast = false } = {}): void {
    for (const [tag, request] of requests) this.requests.set(tag, request);
    const entry = viewInt32(this.bufferRing, BUFFERS * 16).subarray((this.#head % BUFFERS) * 4);
    this.#head++;
    const tags = new Uint16Array(viewInt32(join(entry[0]!, entry[1]!), entry[2]!).buffer);
    tags.set([...requests.keys()]);
    const buffer = entry[3]! & 0xffff;
    const flags = IORING_CQE_F.BUFFER | (isLast ? 0 : IORING_CQE_F.MORE) | (buffer << 16);
    this.queue.onCompletion(FETCH_STEP, KIND.batch, requests.size * 2, flags);
  }

  /** The FETCH ends without a request. */
  endFetch(errno: number): void {
    this.queue.onCompletion(FETCH_STEP, KIND.batch, -errno, 0);
  }
}

function elementsAt(address: number, count: number, elementBytes: number): Element[] {
  const words = viewInt32(address, count * elementBytes);
  return Array.from({ length: count }, (_, i) => {
    const at = (i * elementBytes) >> 2;
    return {
      tag: words[at]! & 0xffff,
      bufferIndex: words[at]! >>> 16,
      result: words[at + 1]!,
      address: elementBytes === 16 ? join(words[at + 2]!, words[at + 3]!) : 0,
    };
  });
}
