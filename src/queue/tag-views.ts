// What a target of functions sees of each tag's buffer: views made once, taken away for good when a
// request is given up.

import { viewInt32 } from "../ffi/memory.ts";

export class TagViews {
  private readonly address: (tag: number) => number;
  private readonly bytesPerTag: number;
  /** All of a tag's buffer, in an ArrayBuffer of its own: it can be detached alone. */
  private readonly whole: (Uint8Array | undefined)[];
  /** The part that the last request had; the next one is often as long. */
  private readonly last: (Uint8Array | undefined)[];

  /** `address` says where a tag's buffer lies now. */
  constructor(depth: number, bytesPerTag: number, address: (tag: number) => number) {
    this.address = address;
    this.bytesPerTag = bytesPerTag;
    this.whole = Array.from({ length: depth });
    this.last = Array.from({ length: depth });
  }

  /** The first `lengthBytes` of the tag's buffer. */
  view(tag: number, lengthBytes: number): Uint8Array {
    const last = this.last[tag];
    if (last !== undefined && last.length === lengthBytes) return last;
    let whole = this.whole[tag];
    // A target may have given its buffer away, to a Worker: that leaves an empty one here.
    if (whole === undefined || whole.length === 0) whole = this.whole[tag] = this.make(tag);
    const view = whole.subarray(0, lengthBytes);
    this.last[tag] = view;
    return view;
  }

  /** Every view of the tag's buffer becomes empty: who still has one can do no harm with it. */
  detach(tag: number): void {
    const whole = this.whole[tag];
    this.whole[tag] = undefined;
    this.last[tag] = undefined;
    try {
      (whole?.buffer as ArrayBuffer | undefined)?.transfer();
    } catch {
      // Something native is at work on it and keeps it: the memory is never used again all the same.
    }
  }

  private make(tag: number): Uint8Array {
    const { buffer } = viewInt32(this.address(tag), this.bytesPerTag);
    return new Uint8Array(buffer, 0, this.bytesPerTag);
  }
}
