// A disk's content kept beside it: what a target does to its backing is compared with this.

import { expect } from "bun:test";

import { UBLK_IO_F, UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import type { Geometry } from "../../src/target.ts";
import type { Request } from "./fake-queue.ts";
import type { LocalQueue } from "./local-queue.ts";

export interface ShadowOptions {
  readonly local: LocalQueue;
  readonly geometry: Geometry;
  readonly depth: number;
  readonly ioBufBytes: number;
  readonly random: () => number;
}

export class Shadow {
  readonly bytes: Uint8Array;
  readonly #options: ShadowOptions;

  /** The disk must hold zeroes. */
  constructor(options: ShadowOptions) {
    this.#options = options;
    this.bytes = new Uint8Array(options.geometry.sizeBytes);
  }

  /** One round: as many requests at once as the queue is deep, none touching another's range. */
  round(): void {
    const { local, depth } = this.#options;
    const requests = Array.from({ length: depth }, (_, slot) => this.#request(slot));
    for (const [tag, request] of requests.entries()) this.#deliver(tag, request);
    const answers = local.settle();
    for (const [tag, request] of requests.entries()) this.#check(tag, request, answers.get(tag)!);
  }

  /** All of the disk, read through the queue. */
  compare(): void {
    const { local, ioBufBytes, geometry } = this.#options;
    for (let at = 0; at < geometry.sizeBytes; at += ioBufBytes) {
      const lengthBytes = Math.min(ioBufBytes, geometry.sizeBytes - at);
      const found = local.read(at, lengthBytes);
      expect(Buffer.compare(found as Uint8Array, this.bytes.subarray(at, at + lengthBytes))).toBe(
        0,
      );
    }
  }

  /** Somewhere within the slot's own part of the disk. */
  #request(slot: number): Request {
    const { geometry, depth, ioBufBytes, random } = this.#options;
    const blockBytes = geometry.logicalBlockBytes;
    const slotBlocks = Math.floor(geometry.sizeBytes / blockBytes / depth);
    const first = Math.floor(random() * slotBlocks);
    const most = Math.min(slotBlocks - first, ioBufBytes / blockBytes);
    const blocks = 1 + Math.floor(random() ** 3 * most);
    const { op, flags } = this.#operation();
    return {
      op,
      flags,
      offsetBytes: (slot * slotBlocks + first) * blockBytes,
      lengthBytes: op === UBLK_IO_OP.FLUSH ? 0 : Math.min(blocks, most) * blockBytes,
    };
  }

  #operation(): { op: number; flags: number } {
    const { geometry, random } = this.#options;
    const flags = random() < 0.2 && geometry.fua ? UBLK_IO_F.FUA : 0;
    const dice = random();
    if (dice < 0.4) return { op: UBLK_IO_OP.READ, flags: 0 };
    if (dice < 0.85) return { op: UBLK_IO_OP.WRITE, flags };
    if (dice < 0.9 && geometry.discard) return { op: UBLK_IO_OP.DISCARD, flags: 0 };
    if (dice < 0.95 && geometry.writeZeroes) return { op: UBLK_IO_OP.WRITE_ZEROES, flags };
    if (dice < 0.97 && geometry.writeZeroes) {
      return { op: UBLK_IO_OP.WRITE_ZEROES, flags: flags | UBLK_IO_F.NOUNMAP };
    }
    return { op: UBLK_IO_OP.FLUSH, flags: 0 };
  }

  #deliver(tag: number, request: Request): void {
    const { local, random } = this.#options;
    const data = local.data(tag).subarray(0, request.lengthBytes);
    if (request.op === UBLK_IO_OP.READ) data.fill(0xee);
    if (request.op === UBLK_IO_OP.WRITE) {
      const words = new Uint32Array(data.buffer, data.byteOffset, data.byteLength / 4);
      for (let i = 0; i < words.length; i++) words[i] = random() * 4294967296;
    }
    local.deliver(tag, request);
  }

  #check(tag: number, request: Request, answer: number): void {
    const { op, offsetBytes, lengthBytes, flags = 0 } = request;
    const data = this.#options.local.data(tag).subarray(0, lengthBytes);
    const range = this.bytes.subarray(offsetBytes, offsetBytes + lengthBytes);
    const hasData = op === UBLK_IO_OP.READ || op === UBLK_IO_OP.WRITE;
    // Keeping the space is more than some file systems can; the block layer writes zeroes then.
    if (answer === -95 && (flags & UBLK_IO_F.NOUNMAP) !== 0) return;
    expect({ request, answer }).toEqual({ request, answer: hasData ? lengthBytes : 0 });
    if (op === UBLK_IO_OP.READ) expect(Buffer.compare(data, range)).toBe(0);
    if (op === UBLK_IO_OP.WRITE) range.set(data);
    if (op === UBLK_IO_OP.DISCARD || op === UBLK_IO_OP.WRITE_ZEROES) range.fill(0);
  }
}
