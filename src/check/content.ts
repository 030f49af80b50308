// What a check writes: every block says which write it belongs to and where it should lie, so that a
// block found in the wrong place tells what went wrong.

const MAGIC = 0x75626c6b;
/** What a buffer holds once its request is answered: it belongs to another one then. */
export const REUSED = 0xdb;

/** Numbers from 0 to 1 that follow from a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Fills one block (a multiple of 16 bytes) with what write `version` puts there. */
function fillBlock(bytes: Uint8Array, seed: number, version: number, block: number): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  words[0] = MAGIC;
  words[1] = version;
  words[2] = block;
  words[3] = Math.floor(block / 4294967296);
  let x = (seed ^ Math.imul(version + 1, 0x9e3779b1) ^ Math.imul(block + 1, 0x85ebca6b)) | 1;
  for (let i = 4; i < words.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    words[i] = x;
  }
}

/** Fills whole blocks, of which the first is block number `first`. */
export function fillBlocks(
  bytes: Uint8Array,
  { seed, version, first, blockBytes }: Filling & { readonly version: number },
): void {
  for (let at = 0; at < bytes.length; at += blockBytes) {
    fillBlock(bytes.subarray(at, at + blockBytes), seed, version, first + at / blockBytes);
  }
}

export interface Filling {
  readonly seed: number;
  readonly first: number;
  readonly blockBytes: number;
}

/**
 * What a block holds, as a short word: "VERSION.BLOCK" for what a write put into a block, the same with
 * "+BYTES" when only so many of its first bytes are that, "=BYTE" for nothing but that byte, "#HASH" for
 * anything else.
 */
export function labelOf(bytes: Uint8Array, seed: number): string {
  const first = bytes[0]!;
  if (bytes.every((byte) => byte === first)) return `=${first}`;
  const [magic, version = 0, low = 0, high = 0] = new Uint32Array(bytes.slice(0, 16).buffer);
  if (magic !== MAGIC) return `#${Bun.hash(bytes).toString(16)}`;
  const block = low + high * 4294967296;
  const whole = new Uint8Array(bytes.length);
  fillBlock(whole, seed, version, block);
  const differs = whole.findIndex((byte, i) => byte !== bytes[i]);
  return differs < 0 ? dataLabel(version, block) : `${dataLabel(version, block)}+${differs}`;
}

export const dataLabel = (version: number, block: number) => `${version}.${block}`;
export const ZEROES = "=0";

/** A label in words. */
export function describeLabel(label: string): string {
  if (label === ZEROES) return "zeroes";
  if (label === `=${REUSED}`) {
    return (
      "what the buffer was filled with after an earlier request was answered: " +
      "keep a copy of the data (from.slice()), not the view"
    );
  }
  if (label.startsWith("=")) return `nothing but bytes of ${label.slice(1)}`;
  const [, version, block, bytes] = /^(\d+)\.(\d+)(?:\+(\d+))?$/.exec(label) ?? [];
  if (version === undefined) return "bytes that nobody wrote there";
  const what = `what write ${version} put in block ${block}`;
  return bytes === undefined ? what : `${what}, but only its first ${bytes} bytes`;
}
