// What the checks of one target share: the disk that is being served, the model beside it, the parts
// of the disk that are used, and numbers that follow from the seed.

import { CheckedDisk, type DiskOptions, type Range } from "./disk.ts";
import { Failure } from "./instance.ts";
import { Model } from "./model.ts";

/** No larger request is sent, whatever the target allows. */
const IO_BYTES_MAX = 512 * 1024;
const WINDOW_BYTES = 1024 ** 2;
/** A disk up to this size is used as a whole. */
const WHOLE_BYTES_MAX = 4 * WINDOW_BYTES;

export class Bench {
  disk: CheckedDisk;
  model: Model;
  random: () => number = Math.random;
  /** The parts of the disk that the checks use. */
  readonly windows: readonly Range[];
  readonly #options: DiskOptions;
  readonly #originals = new Map<number, Uint8Array>();

  private constructor(options: DiskOptions, disk: CheckedDisk, random: () => number) {
    this.#options = options;
    this.disk = disk;
    this.windows = windowsOf(disk.geometry, random);
    this.model = this.#newModel();
  }

  /** Opens the disk for the first time. Rejects with Failure. */
  static async open(options: DiskOptions, random: () => number): Promise<Bench> {
    return new Bench(options, await CheckedDisk.open(options, true), random);
  }

  /** Reads what is there, which is what `finish` puts back. Nothing is compared or written before. */
  async begin(): Promise<void> {
    await this.#adopt((offset, data) => this.#originals.set(offset, data));
  }

  get blockBytes(): number {
    return this.disk.geometry.logicalBlockBytes;
  }

  get maxIoBytes(): number {
    return Math.min(this.disk.geometry.maxIoBytes ?? IO_BYTES_MAX, IO_BYTES_MAX);
  }

  /** The same disk in new processes; the earlier ones go on, if they are there. */
  async another(): Promise<CheckedDisk> {
    const disk = await CheckedDisk.open(this.#options, false);
    const [before, now] = [this.disk.geometry, disk.geometry].map((each) => JSON.stringify(each));
    if (before === now) return disk;
    await disk[Symbol.asyncDispose]();
    throw new Failure(`opened again, it is another disk: ${now}, and was ${before}`);
  }

  /** kill -9, and a new server. */
  async killAndReopen(): Promise<void> {
    await this.disk.kill(this.model);
    this.disk = await this.another();
  }

  /** After a failure: what is found is taken for what is there. */
  async startOver(): Promise<void> {
    await this.disk[Symbol.asyncDispose]();
    this.disk = await this.another();
    this.model = this.#newModel();
    await this.#adopt(() => {});
  }

  /** Puts back what was there, and closes. */
  async finish(): Promise<void> {
    await using disk = this.disk;
    if (!disk.geometry.readOnly) {
      for (const [offset, data] of this.#originals) await disk.put(offset, data);
    }
    await disk.close(this.model);
  }

  /** One of the queues, for a request that may come through any. */
  anyQueue(): number {
    return this.random() < 0.5 ? 0 : 1;
  }

  /** All that the checks use, compared with the model. */
  async compare(options: { queue?: number } = {}): Promise<void> {
    for (const range of this.pieces()) {
      await this.disk.read(this.model, range, { queue: this.anyQueue(), ...options });
    }
  }

  /** The windows in pieces of the largest request. */
  pieces(): Range[] {
    return this.windows.flatMap(({ offset, length }) =>
      Array.from({ length: Math.ceil(length / this.maxIoBytes) }, (_, i) => ({
        offset: offset + i * this.maxIoBytes,
        length: Math.min(this.maxIoBytes, length - i * this.maxIoBytes),
      })),
    );
  }

  /** One of the windows' parts of so many blocks, or fewer where a window is smaller. */
  place(blocks: number): Range {
    const window = this.windows[Math.floor(this.random() * this.windows.length)]!;
    const length = Math.min(blocks * this.blockBytes, window.length);
    const first = Math.floor(this.random() * ((window.length - length) / this.blockBytes + 1));
    return { offset: window.offset + first * this.blockBytes, length };
  }

  /** Parts of the windows that do not touch, in any order: one in each of `count` equal slots. */
  apart(count: number, blocksMax: number): Range[] {
    const all = this.windows.reduce((sum, { length }) => sum + length, 0);
    const slotBytes = Math.floor(all / count / this.blockBytes) * this.blockBytes;
    const slots = this.windows.flatMap(({ offset, length }) =>
      Array.from({ length: Math.floor(length / Math.max(slotBytes, this.blockBytes)) }, (_, i) => {
        return { offset: offset + i * slotBytes, length: slotBytes };
      }),
    );
    const ranges = slots.map((slot) => this.#within(slot, blocksMax));
    return this.shuffled(ranges).slice(0, count);
  }

  shuffled<T>(list: readonly T[]): T[] {
    return list
      .map((value) => ({ value, key: this.random() }))
      .toSorted((a, b) => a.key - b.key)
      .map(({ value }) => value);
  }

  #within(slot: Range, blocksMax: number): Range {
    const slotBlocks = slot.length / this.blockBytes;
    const blocks = 1 + Math.floor(this.random() ** 3 * Math.min(blocksMax, slotBlocks));
    const length =
      Math.min(blocks, slotBlocks, this.maxIoBytes / this.blockBytes) * this.blockBytes;
    const room = (slot.length - length) / this.blockBytes;
    const first = Math.floor(this.random() * (room + 1));
    return { offset: slot.offset + first * this.blockBytes, length };
  }

  async #adopt(keep: (offset: number, data: Uint8Array) => void): Promise<void> {
    for (const range of this.pieces()) {
      const data = await this.disk.adopt(this.model, range);
      // What is not the same again is not what is on the disk.
      await this.disk.read(this.model, range);
      keep(range.offset, data);
    }
  }

  #newModel(): Model {
    const { logicalBlockBytes: blockBytes, volatileCache: isVolatile } = this.disk.geometry;
    return new Model({ blockBytes, isVolatile });
  }
}

/** A small disk as a whole; of a large one its start, its end, and two places in between. */
function windowsOf(geometry: CheckedDisk["geometry"], random: () => number): Range[] {
  const { sizeBytes, logicalBlockBytes } = geometry;
  if (sizeBytes <= WHOLE_BYTES_MAX) return [{ offset: 0, length: sizeBytes }];
  const between = (part: number) => {
    const from = WINDOW_BYTES + (part / 2) * (sizeBytes - 2 * WINDOW_BYTES);
    const room = sizeBytes / 2 - 2 * WINDOW_BYTES;
    const blocks = Math.floor((from + Math.max(0, random() * room)) / logicalBlockBytes);
    return blocks * logicalBlockBytes;
  };
  return [0, between(0), between(1), sizeBytes - WINDOW_BYTES].map((offset) => ({
    offset,
    length: WINDOW_BYTES,
  }));
}
