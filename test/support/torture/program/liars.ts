// Targets that acknowledge what they have not done, for the checks to find out.

import { openSync, statSync } from "node:fs";

import { ERRNO } from "../../../../src/ffi/errno.ts";
import { pread, pwrite } from "../../../../src/ffi/libc.ts";
import { mapMemory } from "../../../../src/ffi/memory.ts";
import { UBLK_IO_OP } from "../../../../src/ffi/ublk.ts";
import { defineTarget, type QueueContext, type RingHandler } from "../../../../src/target.ts";

const BLOCK_BYTES = 4096;
const SLOT_BYTES = 512 * 1024;
/** So many that some are read before they are overwritten, whichever the writers choose. */
const SLOTS = 16;

type LiarSpec = { readonly file: string };

/**
 * Commits before it writes: what is acknowledged lies in this process's memory, until `SLOTS` writes
 * later. While the server lives every read is right; its death takes the newest writes with it.
 */
class HastyQueue implements RingHandler {
  readonly kind = "ring";
  readonly #queue: QueueContext;
  readonly #fd: number;
  readonly #slots = Array.from({ length: SLOTS }, () => ({
    memory: mapMemory(SLOT_BYTES),
    offsetBytes: 0,
    lengthBytes: 0,
  }));
  readonly #request = mapMemory(SLOT_BYTES);
  #next = 0;

  constructor(queue: QueueContext, fd: number) {
    this.#queue = queue;
    this.#fd = fd;
  }

  start(tag: number): void {
    const queue = this.#queue;
    const op = queue.op(tag);
    if (op === UBLK_IO_OP.FLUSH) return queue.complete(tag, 0);
    const [offsetBytes, lengthBytes] = [queue.offsetBytes(tag), queue.lengthBytes(tag)];
    if (op === UBLK_IO_OP.READ) this.#read(queue.address(tag), lengthBytes, offsetBytes);
    else if (op === UBLK_IO_OP.WRITE) this.#keep(queue.address(tag), lengthBytes, offsetBytes);
    else return queue.complete(tag, -ERRNO.EOPNOTSUPP);
    queue.complete(tag, lengthBytes);
  }

  finish(): void {}

  /** The oldest write goes out, and this one takes its place. */
  #keep(address: number, lengthBytes: number, offsetBytes: number): void {
    const slot = this.#slots[this.#next]!;
    this.#next = (this.#next + 1) % this.#slots.length;
    if (slot.lengthBytes > 0) {
      pwrite(this.#fd, slot.memory.address, slot.lengthBytes, slot.offsetBytes);
    }
    copy(address, slot.memory.address, lengthBytes);
    Object.assign(slot, { offsetBytes, lengthBytes });
  }

  /** What the file holds, and over it what it does not hold yet. */
  #read(address: number, lengthBytes: number, offsetBytes: number): void {
    const { bytes } = this.#request;
    pread(this.#fd, this.#request.address, lengthBytes, offsetBytes);
    for (let i = 0; i < this.#slots.length; i++) {
      const slot = this.#slots[(this.#next + i) % this.#slots.length]!;
      for (let at = 0; at < slot.lengthBytes; at += BLOCK_BYTES) {
        const to = slot.offsetBytes + at - offsetBytes;
        const block = slot.memory.bytes.subarray(at, at + BLOCK_BYTES);
        if (to >= 0 && to + BLOCK_BYTES <= lengthBytes) bytes.set(block, to);
      }
    }
    copy(this.#request.address, address, lengthBytes);
  }
}

const scratch = openSync("/proc/self/mem", "r+");

/** Mapped memory to mapped memory, whoever mapped it. */
function copy(from: number, to: number, lengthBytes: number): void {
  if (pwrite(scratch, from, lengthBytes, to) !== lengthBytes) throw new Error("cannot copy");
}

export const hasty = defineTarget({
  name: "hasty",
  summary: "a liar: commits before it writes",
  data: "address",
  args: { file: { type: "string", alias: "f", required: true } },
  parse: ({ file }): LiarSpec => ({ file }),
  open: async ({ file }: LiarSpec) => ({
    geometry: {
      sizeBytes: statSync(file).size,
      logicalBlockBytes: BLOCK_BYTES,
      physicalBlockBytes: BLOCK_BYTES,
      readOnly: false,
      rotational: false,
      volatileCache: true,
      fua: false,
    },
    fds: [],
    facts: {},
    [Symbol.asyncDispose]: async () => {},
  }),
  serve: ({ file }, { queue }) => new HastyQueue(queue, openSync(file, "r+")),
});

export const liars = [hasty];
