// The memory of requests, watched: whether a target goes beyond its end, changes what it may only
// read, or uses it after the request was answered.

import { REUSED, UNFILLED } from "./content.ts";

const PAGE_BYTES = 4096;
const GUARD_BYTES = 64;
const GUARD = 0xa7;
/** Answered requests whose memory is watched on. */
const WATCHED_MAX = 64;

interface Watched {
  readonly buffer: RequestBuffer;
  readonly what: string;
}

export class RequestBuffer {
  /** What the target is given. */
  readonly view: Uint8Array;
  readonly #memory: Uint8Array;

  /** `shift` bytes after the start of a page, or the nearest to it that JavaScript has. */
  constructor(length: number, shift: number) {
    const memory = new Uint8Array(new ArrayBuffer(2 * PAGE_BYTES + length + PAGE_BYTES)).fill(
      GUARD,
    );
    this.#memory = memory;
    this.view = memory.subarray(PAGE_BYTES + shift, PAGE_BYTES + shift + length);
    this.view.fill(UNFILLED);
  }

  /** It was transferred to somebody else: nothing of it is left here. */
  get isGivenAway(): boolean {
    return this.#memory.length === 0;
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

let reused = new Uint8Array();

function isReused(view: Uint8Array): boolean {
  if (reused.length < view.length) reused = new Uint8Array(view.length).fill(REUSED);
  return Buffer.compare(view, reused.subarray(0, view.length)) === 0;
}
