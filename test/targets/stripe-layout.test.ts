// Where a stripe's bytes lie, against a model that deals out one sector after the other.

import { expect, test } from "bun:test";

import { StripeLayout } from "../../src/targets/stripe-layout.ts";
import { chooseSeed, seeded } from "../support/seeded.ts";

const SECTOR_BYTES = 512;

interface Range {
  start: number;
  end: number;
}

/** By member: the bytes that a range of the disk has there, dealt out sector by sector. */
function naive(members: number, chunkBytes: number, offset: number, length: number) {
  const ranges = new Map<number, Range>();
  for (let at = offset; at < offset + length; at += SECTOR_BYTES) {
    const chunk = Math.floor(at / chunkBytes);
    const member = chunk % members;
    const place = Math.floor(chunk / members) * chunkBytes + (at % chunkBytes);
    const range = ranges.get(member);
    if (range === undefined) ranges.set(member, { start: place, end: place + SECTOR_BYTES });
    else {
      // What one member has of a range is one range.
      if (place !== range.end) throw new Error(`member ${member} has a gap at ${range.end}`);
      range.end += SECTOR_BYTES;
    }
  }
  return ranges;
}

function compare(layout: StripeLayout, offset: number, length: number): void {
  const { members, chunkBytes } = layout;
  const expected = naive(members, chunkBytes, offset, length);
  const what = JSON.stringify({ members, chunkBytes, offset, length });
  const count = Math.min(members, layout.chunks(offset, length));
  expect(count, what).toBe(expected.size);
  const first = layout.memberAt(offset);
  for (let i = 0; i < count; i++) {
    const member = (first + i) % members;
    const start = layout.memberOffset(offset, member);
    const end = layout.memberOffset(offset + length, member);
    expect({ start, end }, what).toEqual(expected.get(member)!);
    for (const at of [start, start + SECTOR_BYTES * 3, end - SECTOR_BYTES]) {
      if (at >= end) continue;
      const back = layout.diskOffset(at, member);
      expect(back >= offset && back < offset + length, what).toBe(true);
      expect(layout.memberAt(back)).toBe(member);
      expect(layout.memberOffset(back, member)).toBe(at);
    }
  }
  for (let member = 0; member < members; member++) {
    if (expected.has(member)) continue;
    const start = layout.memberOffset(offset, member);
    expect(layout.memberOffset(offset + length, member), what).toBe(start);
  }
}

test("every number of members, random chunks, places and lengths", () => {
  const random = seeded(chooseSeed());
  const upTo = (n: number) => Math.floor(random() * n);
  for (let members = 2; members <= 32; members++) {
    for (let round = 0; round < 20; round++) {
      const layout = new StripeLayout(members, 4096 << upTo(8));
      const far = upTo(2) * 2 ** 40;
      const offset = (far + upTo(2 ** 31)) * SECTOR_BYTES;
      const length = (1 + Math.floor(random() ** 4 * 2048)) * SECTOR_BYTES;
      compare(layout, offset, length);
    }
  }
});

test("the edges of chunks and rows", () => {
  for (const members of [2, 3, 7, 32]) {
    const layout = new StripeLayout(members, 4096);
    const row = layout.rowBytes;
    for (const base of [0, row, 1000 * row]) {
      for (const from of [0, 512, 3584, 4096, row - 512]) {
        for (const length of [512, 3584, 4096, 4608, row - 512, row, row + 512, 3 * row]) {
          compare(layout, base + from, length);
        }
      }
    }
  }
});

test("a discard of many GiB lies exactly on each member", () => {
  const layout = new StripeLayout(3, 65536);
  const start = 5 * 2 ** 40 + 512;
  const length = 3 * 2 ** 37;
  const parts = [0, 1, 2].map(
    (member) => layout.memberOffset(start + length, member) - layout.memberOffset(start, member),
  );
  expect(parts).toEqual([2 ** 37, 2 ** 37, 2 ** 37]);
});
