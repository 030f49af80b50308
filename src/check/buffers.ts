// The memory of requests, watched: whether a target goes beyond its end, leaves a part of it as it
// was, changes what it may only read, or uses it after the request was answered.

import { REUSED, seeded } from "./content.ts";

const PAGE_BYTES = 4096;
const GUARD_BYTES = 64;
const GUARD = 0xa7;
/** Answered requests whose memory is watched on. */
const WATCHED_MAX = 64;
/** So many buffers in a row begin with other bytes of the noise. */
const NOISES = 64;
const NOISE_STEP_WORDS = 251;

interface Watched {
  readonly buffer: RequestBuffer;
  readonly what: string;
}

export class RequestBuffer {
  /** What the target is given. */
  readonly view: Uint8Array;
  readonly #memory: Uint8Array;
  readonly #noise: Int32Array;

  /** `shift` bytes after the start of a page, or the nearest to it that JavaScript has. */
  constructor(length: number, shift: number) {
    const memory = new Uint8Array(new ArrayBuffer(2 * PAGE_BYTES + length + PAGE_BYTES)).fill(
      GUARD,
    );
    this.#memory = memory;
    this.view = memory.subarray(PAGE_BYTES + shift, PAGE_BYTES + shift + length);
    this.#noise = nextNoise(length / 4);
    this.#words.set(this.#noise);
  }

  /** It was transferred to somebody else: nothing of it is left here. */
  get isGivenAway(): boolean {
    return this.#memory.length === 0;
  }

  /** The first byte that was not filled: eight that are as they were are no data. -1: there are none. */
  get unfilledAt(): number {
    const [words, noise] = [this.#words, this.#noise];
    for (let i = 1; i < words.length; i++) {
      if (words[i] === noise[i] && words[i - 1] === noise[i - 1]) return (i - 1) * 4;
    }
    return -1;
  }

  get #words(): Int32Array {
    const { buffer, byteOffset, length } = this.view;
    return new Int32Array(buffer, byteOffset, length / 4);
  }

  /** The bytes around the view are as they were. */
  get isGuarded(): boolean {
    const { byteOffset, length } = this.view;
    const before = this.#memory.subarray(byteOffset - GUARD_BYTES, byteOffset);
    const after = this.#memory.subarray(byteOffset + length, byteOffset + length + GUARD_BYTES);
    return before.every((byte) => byte === GUARD) && after.every((byte) => byte === GUARD);
  }
}

/** The memory of requests that were answered: nobody may touch it any more. */
export class Answered {
  readonly #watched: Watched[] = [];

  /** From now on it counts as another request's. */
  add(buffer: RequestBuffer, what: string): void {
    buffer.view.fill(REUSED);
    this.#watched.push({ buffer, what });
    if (this.#watched.length > WATCHED_MAX) this.#watched.shift();
  }

  /** What is wrong, once; undefined: nothing. */
  problem(): string | undefined {
    const at = this.#watched.findIndex(
      ({ buffer }) => buffer.isGivenAway || !isReused(buffer.view),
    );
    if (at < 0) return undefined;
    const [{ what }] = this.#watched.splice(at, 1) as [Watched];
    return `${what}: its buffer was changed after it was answered; it belongs to another request by then`;
  }
}

let noise = new Int32Array();
let turn = 0;

/**
 * What a buffer holds before a read: other bytes each time, so that what a target leaves alone is never
 * taken for what is on the disk.
 */
function nextNoise(words: number): Int32Array {
  const needed = words + NOISES * NOISE_STEP_WORDS;
  if (noise.length < needed) {
    const random = seeded(needed);
    noise = Int32Array.from({ length: needed }, () => random() * 4294967296);
  }
  turn = (turn + 1) % NOISES;
  return noise.subarray(turn * NOISE_STEP_WORDS, turn * NOISE_STEP_WORDS + words);
}

let reused = new Uint8Array();

function isReused(view: Uint8Array): boolean {
  if (reused.length < view.length) reused = new Uint8Array(view.length).fill(REUSED);
  return Buffer.compare(view, reused.subarray(0, view.length)) === 0;
}
