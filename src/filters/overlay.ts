// What is written over a disk that must stay as it is, and where: data, and a bit for every block that
// was written.
//
// Contract. A block that was written reads as it was written, whoever serves it next, after kill -9.
// After a power failure it reads as it was when last flushed, or as some write since then left it:
// never as what is neither. So there are two maps. A bit goes into the `recent` one once the block's
// data is in the file; that map is good for as long as the page cache that both are in, a boot of the
// machine. It goes into the `lasting` one once the data is on the medium.
//
// A sync that has failed is marked in the header, good for a boot like the recent map: the kernel tells it once,
// and the next one succeeds though what was lost is not on the medium. A server that comes later must not believe it.
//
//   header | lasting map | data, each block at its place | recent map

import { BlockError } from "../api/index.ts";

/** A file, as the overlay needs it. All of a read or write is done, or it throws. */
export interface OverlayFile {
  read(into: Uint8Array, at: number): Promise<void>;
  write(from: Uint8Array, at: number): Promise<void>;
  /** The same at once, for a few bytes that are in the page cache. */
  readNow(into: Uint8Array, at: number): void;
  writeNow(from: Uint8Array, at: number): void;
  /** Takes the space at once, where the file system can: a later write there does not lack it. */
  reserveNow(at: number, length: number): void;
  /** `mayUnmap`: the space may be given back. */
  zero(at: number, length: number, options: { readonly mayUnmap: boolean }): Promise<void>;
  /** What was written before is on the medium when it returns. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface OverlayShape {
  readonly sizeBytes: number;
  readonly blockBytes: number;
}

/** A part of a request that lies in one place. */
interface Run {
  readonly isWritten: boolean;
  readonly offset: number;
  readonly length: number;
}

/** Where the byte is that is not 0 once a sync has failed; behind the header's own sector. */
export const LOST_AT = 512;
const PAGE_BYTES = 4096;
const SCAN_BYTES = 1024 ** 2;

const pages = (bytes: number) => Math.ceil(bytes / PAGE_BYTES) * PAGE_BYTES;

/** Where what lies in the file. */
export function layoutOf({ sizeBytes, blockBytes }: OverlayShape) {
  const mapBytes = pages(sizeBytes / blockBytes / 8);
  const lastingAt = PAGE_BYTES;
  const dataAt = lastingAt + mapBytes;
  const recentAt = dataAt + pages(sizeBytes);
  return { mapBytes, lastingAt, dataAt, recentAt, totalBytes: recentAt + mapBytes };
}

export class Overlay {
  readonly #file: OverlayFile;
  readonly #blockBytes: number;
  readonly #layout: ReturnType<typeof layoutOf>;
  /** Pages of the recent map that may have bits which the lasting one has not. */
  #fresh = new Set<number>();
  /** Nothing is known of what an earlier server has written. */
  #isAllFresh = true;
  /** Pages of the lasting map that have their space. */
  readonly #reserved = new Set<number>();
  #lastFlush: Promise<unknown> = Promise.resolve();
  #nextFlush: Promise<void> | undefined;
  #syncFailure: unknown;

  /**
   * Nothing is read here, and nothing is kept of the maps: an earlier server may still write to them.
   */
  constructor(file: OverlayFile, shape: OverlayShape) {
    this.#file = file;
    this.#blockBytes = shape.blockBytes;
    this.#layout = layoutOf(shape);
  }

  /** Reads what was written; the rest of the range by `below`. */
  async read(
    offset: number,
    into: Uint8Array,
    below: (offset: number, into: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const parts = this.#runs(offset, into.length).map((run) => {
      const begin = run.offset - offset;
      const part = into.subarray(begin, begin + run.length);
      if (!run.isWritten) return below(run.offset, part);
      return this.#file.read(part, this.#layout.dataAt + run.offset);
    });
    // The memory is the caller's again when nobody uses it any more.
    const outcomes = await Promise.allSettled(parts);
    const failed = outcomes.find(({ status }) => status === "rejected");
    if (failed?.status === "rejected") throw failed.reason;
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    const { length } = from;
    await this.#file.write(from, this.#layout.dataAt + offset);
    this.#mark(offset, length);
  }

  async zero(offset: number, length: number, options: { readonly mayUnmap: boolean }) {
    await this.#file.zero(this.#layout.dataAt + offset, length, options);
    this.#mark(offset, length);
  }

  /** Whoever comes while one is under way shares the next: that one may not have seen their data. */
  flush(): Promise<void> {
    if (this.#nextFlush === undefined) {
      this.#nextFlush = this.#lastFlush.then(() => {
        this.#nextFlush = undefined;
        return this.#flush();
      });
      this.#lastFlush = this.#nextFlush.catch(() => {});
    }
    return this.#nextFlush;
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  async #flush(): Promise<void> {
    const [fresh, isAll] = [this.#fresh, this.#isAllFresh];
    this.#fresh = new Set();
    this.#isAllFresh = false;
    try {
      // The bits first: what they stand for is in the file, and on the medium after the sync.
      const marks = isAll ? await this.#allMarks() : this.#marksOf(fresh);
      await this.#sync();
      if (marks.size === 0) return;
      for (const [page, bits] of marks) await this.#last(page, bits);
      await this.#sync();
    } catch (error) {
      for (const page of fresh) this.#fresh.add(page);
      this.#isAllFresh ||= isAll;
      throw error;
    }
  }

  /** After one that has failed nobody knows what is on the medium: the kernel forgets it, we do not. */
  async #sync(): Promise<void> {
    if (this.#syncFailure === undefined && this.#hasLost()) {
      const reason = "what was written before this server came did not reach the medium";
      this.#syncFailure = new BlockError("EIO", reason);
    }
    if (this.#syncFailure !== undefined) throw this.#syncFailure;
    try {
      await this.#file.sync();
    } catch (error) {
      this.#syncFailure = error;
      this.#file.writeNow(Uint8Array.of(1), LOST_AT);
      throw error;
    }
  }

  #hasLost(): boolean {
    const mark = new Uint8Array(1);
    this.#file.readNow(mark, LOST_AT);
    return mark[0] !== 0;
  }

  #marksOf(fresh: ReadonlySet<number>): Map<number, Uint8Array> {
    const marks = new Map<number, Uint8Array>();
    for (const page of fresh) {
      const bits = new Uint8Array(PAGE_BYTES);
      this.#file.readNow(bits, this.#layout.recentAt + page * PAGE_BYTES);
      marks.set(page, bits);
    }
    return marks;
  }

  async #allMarks(): Promise<Map<number, Uint8Array>> {
    const { mapBytes, recentAt } = this.#layout;
    const marks = new Map<number, Uint8Array>();
    for (let begin = 0; begin < mapBytes; begin += SCAN_BYTES) {
      const chunk = new Uint8Array(Math.min(SCAN_BYTES, mapBytes - begin));
      await this.#file.read(chunk, recentAt + begin);
      for (let at = 0; at < chunk.length; at += PAGE_BYTES) {
        const bits = chunk.subarray(at, at + PAGE_BYTES);
        if (bits.some((byte) => byte !== 0)) marks.set((begin + at) / PAGE_BYTES, bits.slice());
      }
    }
    return marks;
  }

  /** Adds bits to a page of the lasting map. */
  async #last(page: number, bits: Uint8Array): Promise<void> {
    const at = this.#layout.lastingAt + page * PAGE_BYTES;
    const there = new Uint8Array(PAGE_BYTES);
    await this.#file.read(there, at);
    let isChanged = false;
    for (let i = 0; i < PAGE_BYTES; i++) {
      const byte = there[i]! | bits[i]!;
      isChanged ||= byte !== there[i];
      there[i] = byte;
    }
    if (isChanged) await this.#file.write(there, at);
  }

  /** The range's data is in the file. At once: nobody else changes the same byte in between. */
  #mark(offset: number, length: number): void {
    const [first, end] = [offset / this.#blockBytes, (offset + length) / this.#blockBytes];
    const at = Math.floor(first / 8);
    const bits = new Uint8Array(Math.ceil(end / 8) - at);
    const where = this.#layout.recentAt + at;
    this.#file.readNow(bits, where);
    let isChanged = false;
    for (let block = first; block < end; block++) {
      const i = Math.floor(block / 8) - at;
      const byte = bits[i]! | (1 << (block % 8));
      isChanged ||= byte !== bits[i];
      bits[i] = byte;
    }
    if (!isChanged) return;
    const lastPage = Math.floor((at + bits.length - 1) / PAGE_BYTES);
    for (let page = Math.floor(at / PAGE_BYTES); page <= lastPage; page++) {
      this.#reserve(page);
      this.#fresh.add(page);
    }
    this.#file.writeNow(bits, where);
  }

  /** It is the write that must hear of a full file system: the flush of what was answered may not fail. */
  #reserve(page: number): void {
    if (this.#reserved.has(page)) return;
    this.#file.reserveNow(this.#layout.lastingAt + page * PAGE_BYTES, PAGE_BYTES);
    this.#reserved.add(page);
  }

  /** The range in parts that are wholly written or wholly not. */
  #runs(offset: number, length: number): Run[] {
    const blockBytes = this.#blockBytes;
    const [first, end] = [offset / blockBytes, (offset + length) / blockBytes];
    const at = Math.floor(first / 8);
    const bits = new Uint8Array(Math.ceil(end / 8) - at);
    const lasting = new Uint8Array(bits.length);
    this.#file.readNow(bits, this.#layout.recentAt + at);
    this.#file.readNow(lasting, this.#layout.lastingAt + at);
    const isWritten = (block: number) => {
      const i = Math.floor(block / 8) - at;
      return ((bits[i]! | lasting[i]!) & (1 << (block % 8))) !== 0;
    };
    const runs: Run[] = [];
    for (let begin = first; begin < end;) {
      const kind = isWritten(begin);
      let next = begin + 1;
      while (next < end && isWritten(next) === kind) next++;
      runs.push({
        isWritten: kind,
        offset: begin * blockBytes,
        length: (next - begin) * blockBytes,
      });
      begin = next;
    }
    return runs;
  }
}
