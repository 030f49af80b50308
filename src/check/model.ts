// What a disk may answer: for every block the versions that a read may find there, now and after a
// crash. Only what the block layer is promised is demanded, whatever order requests are served in.

import { dataLabel, describeLabel, ZEROES } from "./content.ts";

type Kind = "data" | "zeroes" | "anything";

interface Version {
  readonly kind: Kind;
  readonly firstBlock: number;
  readonly blocks: number;
  begin: number;
  /** Infinity while it is under way. */
  end: number;
}

interface Block {
  /** Versions that a read may find; 0 is what was found at first. */
  now: number[];
  /** Versions that may be there after a crash. */
  kept: number[];
  /** Versions of which a crash has left one, and no read has told yet which. */
  survivors: number[];
  /** The label of what was found there at first. */
  readonly original: string;
  /** It was being written when the server died: whatever it holds, it will be written again. */
  isTorn: boolean;
}

export interface ModelOptions {
  readonly blockBytes: number;
  /** Writes that are not flushed may be lost in a crash. */
  readonly isVolatile: boolean;
}

export class Model {
  /** A crash has lost a write that was answered, as it may. */
  hasLost = false;
  readonly #options: ModelOptions;
  readonly #versions: Version[] = [{ kind: "data", firstBlock: 0, blocks: 0, begin: -2, end: -1 }];
  readonly #blocks = new Map<number, Block>();
  #clock = 0;

  constructor(options: ModelOptions) {
    this.#options = options;
  }

  /** Takes what was found for what is there. */
  adopt(block: number, original: string): void {
    this.#blocks.set(block, { now: [0], kept: [0], survivors: [], original, isTorn: false });
  }

  /** A write, discard or writeZeroes sets out; returns its version. */
  begin(kind: Kind, firstBlock: number, blocks: number): number {
    const entry = { kind, firstBlock, blocks, begin: this.#clock++, end: Infinity };
    const version = this.#versions.push(entry) - 1;
    for (const block of this.#of(entry)) {
      block.now.push(version);
      block.kept.push(version);
    }
    return version;
  }

  /** The same request is delivered again. */
  again(version: number): void {
    const entry = this.#versions[version]!;
    entry.begin = this.#clock++;
    entry.end = Infinity;
    for (const block of this.#of(entry)) {
      block.survivors = block.survivors.filter((survivor) => survivor !== version);
      if (!block.now.includes(version)) block.now.push(version);
      if (!block.kept.includes(version)) block.kept.push(version);
    }
  }

  /** It was answered. `isDurable`: it was to be durable by then. */
  end(version: number, isDurable: boolean): void {
    const entry = this.#versions[version]!;
    entry.end = this.#clock++;
    for (const block of this.#of(entry)) {
      block.now = this.#without(block.now, entry);
      if (isDurable || !this.#options.isVolatile) block.kept = this.#without(block.kept, entry);
      block.isTorn = false;
    }
  }

  /** It was refused: nothing has changed. */
  refused(version: number): void {
    const entry = this.#versions[version]!;
    entry.end = entry.begin;
    for (const block of this.#of(entry)) {
      block.now = block.now.filter((each) => each !== version);
      block.kept = block.kept.filter((each) => each !== version);
    }
  }

  /** A point in time, for `endFlush` and `judge`. */
  mark(): number {
    return this.#clock++;
  }

  /** A flush that began at `mark` was answered. */
  endFlush(mark: number): void {
    for (const block of this.#blocks.values()) {
      for (const version of block.kept) {
        const entry = this.#versions[version]!;
        const isPerhapsLost = block.survivors.includes(version);
        if (entry.end < mark && !isPerhapsLost) block.kept = this.#without(block.kept, entry);
      }
    }
  }

  /** The server was killed. */
  crash(): void {
    for (const entry of this.#versions) {
      if (entry.end !== Infinity) continue;
      for (const block of this.#of(entry)) block.isTorn = true;
      entry.end = this.#clock++;
    }
    for (const block of this.#blocks.values()) {
      block.now = [...block.kept];
      block.survivors = block.kept.length > 1 ? [...block.kept] : [];
    }
  }

  /** What is wrong with what a read that began at `mark` found in a block; undefined: nothing. */
  judge(number: number, label: string, mark: number): string | undefined {
    const block = this.#blocks.get(number);
    if (block === undefined || block.isTorn) return undefined;
    const entries = block.now.map((version) => this.#versions[version]!);
    // A read and a write at the same time: half of each is all that can be asked for.
    if (entries.some(({ kind, end }) => kind === "anything" || end > mark)) return undefined;
    const found = block.now.find((version) => this.#labelOf(block, version, number) === label);
    if (found !== undefined) {
      block.now = [found];
      if (block.survivors.includes(found)) {
        const lost = block.survivors.filter((version) => version !== found);
        const foundEnd = this.#versions[found]!.end;
        this.hasLost ||= lost.some((version) => this.#versions[version]!.begin > foundEnd);
        block.kept = block.kept.filter((version) => !lost.includes(version));
        block.survivors = [];
      }
      return undefined;
    }
    const offset = number * this.#options.blockBytes;
    return (
      `block ${number} (offset ${offset}) holds ${describeLabel(label)}; ` +
      `expected: ${block.now.map((version) => this.#describe(version)).join(", or ")}`
    );
  }

  #labelOf(block: Block, version: number, number: number): string {
    if (version === 0) return block.original;
    return this.#versions[version]!.kind === "zeroes" ? ZEROES : dataLabel(version, number);
  }

  #describe(version: number): string {
    if (version === 0) return "what was there before";
    return this.#versions[version]!.kind === "zeroes"
      ? "zeroes"
      : `what write ${version} put there`;
  }

  /** What is left when `later` has been answered: itself, and what was under way at the same time. */
  #without(versions: readonly number[], later: Version): number[] {
    return versions.filter((version) => this.#versions[version]!.end > later.begin);
  }

  *#of({ firstBlock, blocks }: Version): Generator<Block> {
    for (let number = firstBlock; number < firstBlock + blocks; number++) {
      const block = this.#blocks.get(number);
      if (block !== undefined) yield block;
    }
  }
}
