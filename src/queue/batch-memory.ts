// What a queue with batch commands shares with the kernel: buffers in which the kernel writes the tags of
// new requests, and two halves in which the elements of commits are collected.

import { mapMemory, type MappedMemory } from "../ffi/memory.ts";
import { io_uring_buf, io_uring_buf_ring } from "../ffi/uring.ts";
import type { Ring } from "../ring/ring.ts";

/** The buffer group of the tags; nothing else in a queue's ring has one. */
export const TAG_GROUP = 0;
/** The driver writes no more tags at once. */
const TAGS_PER_BUFFER = 128;
const BUFFER_BYTES = TAGS_PER_BUFFER * 2;
/** A power of two. When all are full at once, the kernel keeps the other tags and ends the FETCH. */
const BUFFERS = 32;
/** Of the largest element: header and address. */
const ELEMENT_BYTES_MAX = 16;

const RING_BYTES = BUFFERS * io_uring_buf.sizeBytes;
const TAGS_AT = RING_BYTES;
const ELEMENTS_AT = TAGS_AT + BUFFERS * BUFFER_BYTES;
const TAIL = io_uring_buf_ring.at.tail >> 1;

const ENTRY_WORDS = io_uring_buf.sizeBytes >> 2;
const ADDR_LO = io_uring_buf.at.addr >> 2;
const LEN = io_uring_buf.at.len >> 2;
const BID = io_uring_buf.at.bid >> 1;

/** Mapped and registered before the device is touched; nothing in it allocates afterwards. */
export class BatchMemory implements Disposable {
  /** The tags of all buffers: those of buffer `id` begin at `firstTag(id)`. */
  readonly tags: Uint16Array;
  /** The elements: two halves of `halfWords` each. */
  readonly elements: Int32Array;
  readonly halfWords: number;
  readonly elementsAddress: number;
  private readonly memory: MappedMemory;
  private readonly words: Int32Array;
  private readonly shorts: Uint16Array;
  private tail = 0;

  /** Throws UblkError where it does not fit, or the kernel refuses the buffers. */
  constructor(ring: Ring, depth: number) {
    const halfBytes = depth * ELEMENT_BYTES_MAX;
    this.memory = mapMemory(ELEMENTS_AT + 2 * halfBytes);
    const { buffer } = this.memory.bytes;
    this.words = new Int32Array(buffer, 0, RING_BYTES >> 2);
    this.shorts = new Uint16Array(buffer, 0, RING_BYTES >> 1);
    this.tags = new Uint16Array(buffer, TAGS_AT, BUFFERS * TAGS_PER_BUFFER);
    this.elements = new Int32Array(buffer, ELEMENTS_AT, halfBytes >> 1);
    this.elementsAddress = this.memory.address + ELEMENTS_AT;
    this.halfWords = halfBytes >> 2;
    const { address } = this.memory;
    ring.registerBufferRing({ group: TAG_GROUP, entries: BUFFERS, address });
    for (let id = 0; id < BUFFERS; id++) this.giveBack(id);
  }

  firstTag(buffer: number): number {
    return buffer * TAGS_PER_BUFFER;
  }

  /** The kernel may fill this buffer again. Plain stores: it looks inside our own system calls only. */
  giveBack(buffer: number): void {
    const entry = this.tail & (BUFFERS - 1);
    const at = entry * ENTRY_WORDS;
    const address = this.memory.address + TAGS_AT + buffer * BUFFER_BYTES;
    this.words[at + ADDR_LO] = address | 0;
    this.words[at + ADDR_LO + 1] = (address / 4294967296) | 0;
    this.words[at + LEN] = BUFFER_BYTES;
    this.shorts[at * 2 + BID] = buffer;
    this.tail = (this.tail + 1) & 0xffff;
    this.shorts[TAIL] = this.tail;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }
}
