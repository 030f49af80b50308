// A file whose writes reach the medium sector by sector, in any order, when it is synced or sooner: what
// a power failure leaves of it is a matter of chance, which a seed decides.

import type { OverlayFile } from "../../src/filters/overlay.ts";

const SECTOR_BYTES = 512;

/** Sectors by number; those that are not there are zeroes. */
type Sectors = Map<number, Uint8Array>;

export class FakeMedium implements OverlayFile {
  /** What every reader sees. */
  readonly #cache: Sectors;
  readonly #medium: Sectors;
  readonly #random: () => number;
  #dirty = new Set<number>();
  /** Power is off: whoever is still at work comes to nothing. */
  #isOff = false;
  /** The next so many syncs fail, and what they were to write is lost. */
  failures = 0;
  /** There is no space left but what is taken. */
  isFull = false;

  constructor(random: () => number, content: Sectors = new Map()) {
    this.#cache = new Map(content);
    this.#medium = new Map(content);
    this.#random = random;
  }

  /** Power fails: what is found after it, but for what lies beyond `end`, which is cut off. */
  powerFails(end: number): FakeMedium {
    for (const sector of this.#dirty) if (this.#random() < 0.5) this.#persist(sector);
    this.#isOff = true;
    const left = [...this.#medium].filter(([sector]) => sector < end / SECTOR_BYTES);
    return new FakeMedium(this.#random, new Map(left));
  }

  async read(into: Uint8Array, at: number): Promise<void> {
    await this.#aWhile();
    this.readNow(into, at);
  }

  async write(from: Uint8Array, at: number): Promise<void> {
    const half = Math.floor(from.length / 2 / SECTOR_BYTES) * SECTOR_BYTES;
    this.writeNow(from.subarray(0, half), at);
    await this.#aWhile();
    this.writeNow(from.subarray(half), at + half);
  }

  readNow(into: Uint8Array, at: number): void {
    for (let done = 0; done < into.length;) {
      const { sector, begin, length } = pieceAt(at + done, into.length - done);
      const bytes = this.#cache.get(sector);
      if (bytes === undefined) into.fill(0, done, done + length);
      else into.set(bytes.subarray(begin, begin + length), done);
      done += length;
    }
  }

  writeNow(from: Uint8Array, at: number): void {
    for (let done = 0; done < from.length;) {
      const { sector, begin, length } = pieceAt(at + done, from.length - done);
      const bytes = this.#cache.get(sector)?.slice() ?? new Uint8Array(SECTOR_BYTES);
      bytes.set(from.subarray(done, done + length), begin);
      this.#cache.set(sector, bytes);
      this.#dirty.add(sector);
      // The system writes back when it likes.
      if (this.#random() < 0.2) this.#persist(sector);
      done += length;
    }
  }

  reserveNow(): void {
    if (this.isFull) throw new Error("no space left");
  }

  zero(at: number, length: number): Promise<void> {
    return this.write(new Uint8Array(length), at);
  }

  async sync(): Promise<void> {
    const due = [...this.#dirty];
    // It takes long enough for much to be written meanwhile.
    for (let n = 0; n < 5; n++) await this.#aWhile();
    if (this.failures > 0) {
      this.failures--;
      this.#dirty.clear();
      throw new Error("the medium is broken");
    }
    for (const sector of due) this.#persist(sector);
  }

  async close(): Promise<void> {}

  #persist(sector: number): void {
    if (this.#isOff) return;
    this.#medium.set(sector, this.#cache.get(sector)!);
    this.#dirty.delete(sector);
  }

  async #aWhile(): Promise<void> {
    for (let n = Math.floor(this.#random() * 6); n > 0; n--) await undefined;
  }
}

function pieceAt(at: number, left: number) {
  const sector = Math.floor(at / SECTOR_BYTES);
  const begin = at - sector * SECTOR_BYTES;
  return { sector, begin, length: Math.min(left, SECTOR_BYTES - begin) };
}
