// The io descriptors of one queue: a read-only mapping of /dev/ublkcN that the kernel fills, one entry a tag.

import { mapFile, type MappedMemory, viewInt32 } from "../ffi/memory.ts";
import { UBLK_MAX_QUEUE_DEPTH, ublksrv_io_desc } from "../ffi/ublk.ts";

const { op_flags, nr_sectors, start_sector } = ublksrv_io_desc.at;
const OP_FLAGS = op_flags >> 2;
const NR_SECTORS = nr_sectors >> 2;
const START_LO = start_sector >> 2;
const START_HI = START_LO + 1;

const PAGE_BYTES = 4096;
const roundUpToPage = (bytes: number) => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

/**
 * Decodes requests. Valid for a tag from its completion until its commit; the kernel overwrites
 * the entry afterwards. Plain loads only: Atomics would write to a read-only page.
 */
export class Descriptors implements Disposable {
  private readonly memory: MappedMemory;
  private readonly words: Int32Array;
  private readonly stride: number; // words from one descriptor to the next

  /**
   * Maps queue `queueId` of the open char device `charFd`; `strideBytes` is the device's io_desc_size.
   * Source: ublk_cmd.h, UBLKSRV_CMD_BUF_OFFSET.
   */
  constructor(charFd: number, queueId: number, depth: number, strideBytes: number) {
    this.stride = strideBytes >> 2;
    // The kernel wants exactly this length, and spaces the queues by the largest possible one.
    const lengthBytes = roundUpToPage(depth * strideBytes);
    const offsetBytes = queueId * roundUpToPage(UBLK_MAX_QUEUE_DEPTH * strideBytes);
    this.memory = mapFile(charFd, offsetBytes, lengthBytes, { readOnly: true });
    this.words = viewInt32(this.memory.address, lengthBytes);
  }

  op(tag: number): number {
    return this.words[tag * this.stride + OP_FLAGS]! & 0xff;
  }

  flags(tag: number): number {
    return this.words[tag * this.stride + OP_FLAGS]! & ~0xff;
  }

  offsetBytes(tag: number): number {
    const at = tag * this.stride;
    return ((this.words[at + START_LO]! >>> 0) + this.words[at + START_HI]! * 4294967296) * 512;
  }

  lengthBytes(tag: number): number {
    // At most 32 bits of sectors; a DISCARD may cover more than 4 GiB, so no 32-bit shift here.
    return (this.words[tag * this.stride + NR_SECTORS]! >>> 0) * 512;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }
}
