// What a writer puts into a block: where it belongs, whose it is, which write it was, and a checksum.

export const BLOCK_BYTES = 4096;
const MAGIC = 0x7562_6c6b;
const WORDS = BLOCK_BYTES / 4;

/** Which write a block holds. */
export interface Stamp {
  readonly block: number;
  readonly writer: number;
  /** Counts a writer's writes, from 1. */
  readonly sequence: number;
}

/** What was found in a block: a stamp, nothing yet, or something that nobody has written. */
export type Found = Stamp | "empty" | "torn";

/** Fills `words`, a whole block. */
export function writeStamp(words: Uint32Array, { block, writer, sequence }: Stamp): void {
  words[0] = MAGIC;
  words[1] = block;
  words[2] = writer;
  words[3] = sequence;
  // Every part of the block is this write's alone.
  let x = (Math.imul(block + 1, 0x9e3779b9) ^ Math.imul(sequence, 0x85ebca6b) ^ writer) | 1;
  for (let at = 4; at < WORDS - 1; at++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[at] = x;
  }
  words[WORDS - 1] = checksum(words);
}

export function readStamp(words: Uint32Array): Found {
  if (words[0] === 0 && words.every((word) => word === 0)) return "empty";
  if (words[0] !== MAGIC || words[WORDS - 1] !== checksum(words)) return "torn";
  return { block: words[1]!, writer: words[2]!, sequence: words[3]! };
}

const checksum = (words: Uint32Array) => Bun.hash.crc32(words.subarray(0, WORDS - 1));
