// The history check finds what a disk must not do, and nothing else.

import { expect, test } from "bun:test";

import { type Read, violations, type Write } from "./history.ts";
import { BLOCK_BYTES, readStamp, writeStamp } from "./stamp.ts";

const write = (sequence: number, issuedNs: number, ackedNs = Number.POSITIVE_INFINITY): Write => ({
  block: 7,
  writer: 0,
  sequence,
  issuedNs,
  ackedNs,
});
const read = (sequence: number, issuedNs = 100): Read => ({
  block: 7,
  found: { block: 7, writer: 0, sequence },
  issuedNs,
  answeredNs: issuedNs + 1,
});
const check = (writes: readonly Write[], ...reads: Read[]) => violations({ writes, reads });

test("an acknowledged write is there, or a later one", () => {
  expect(check([write(1, 0, 1)], read(1))).toEqual([]);
  expect(check([write(1, 0, 1), write(2, 2, 3)], read(2))).toEqual([]);
  expect(check([write(1, 0, 1), write(2, 2, 3)], read(1))).toEqual([
    "block 7 holds write 1 of writer 0, and write 2 of writer 0 was acknowledged after it",
  ]);
  expect(check([write(1, 0, 1)], { ...read(1), found: "empty" })).toEqual([
    "block 7 is empty, and write 1 of writer 0 was acknowledged",
  ]);
});

test("one that was not acknowledged may be old or new, before or after a later one", () => {
  const writes = [write(1, 0, 1), write(2, 2)];
  expect(check(writes, read(1), read(2))).toEqual([]);
  expect(check([...writes, write(3, 4, 5)], read(2), read(3))).toEqual([]);
  expect(check([write(1, 0)], { ...read(1), found: "empty" })).toEqual([]);
});

test("of two at the same time either may be the last", () => {
  expect(check([write(1, 0, 10), write(2, 5, 8)], read(1), read(2))).toEqual([]);
});

test("while it is being written a read sees the old or the new", () => {
  const writes = [write(1, 0, 1), write(2, 50, 150)];
  expect(check(writes, read(1, 100), read(2, 100))).toEqual([]);
  expect(check(writes, read(1, 151))).toHaveLength(1);
  expect(check(writes, read(2, 40))).toEqual([
    "block 7 holds write 2 of writer 0 before it was issued",
  ]);
});

test("what nobody wrote, what belongs elsewhere, what is torn", () => {
  expect(check([write(1, 0, 1)], read(9))).toEqual([
    "block 7 holds write 9 of writer 0, which nobody has issued",
  ]);
  const elsewhere = { block: 8, writer: 0, sequence: 1 };
  expect(check([write(1, 0, 1)], { ...read(1), found: elsewhere })).toEqual([
    "block 7 holds what belongs to block 8",
  ]);
  expect(check([write(1, 0)], { ...read(1), found: "torn" })).toEqual(["block 7 is torn"]);
});

test("a block may be torn while it is written, and not before or after", () => {
  const torn = { ...read(1), found: "torn" } as const;
  expect(check([write(1, 50, 150)], torn)).toEqual([]);
  expect(check([write(1, 100, 101)], torn)).toEqual([]);
  for (const [issuedNs, ackedNs] of [
    [50, 99],
    [102, 150],
  ]) {
    expect(check([write(1, issuedNs!, ackedNs)], torn)).toEqual(["block 7 is torn"]);
  }
});

test("a stamp is read back; half of one and half of another is torn, at any place", () => {
  const [old, young] = [1, 2].map((sequence) => {
    const words = new Uint32Array(BLOCK_BYTES / 4);
    writeStamp(words, { block: 7, writer: 3, sequence });
    return words;
  });
  expect(readStamp(young!)).toEqual({ block: 7, writer: 3, sequence: 2 });
  expect(readStamp(new Uint32Array(BLOCK_BYTES / 4))).toBe("empty");
  for (const at of [4, 5, 128, 512, 1023]) {
    const words = young!.slice();
    words.set(old!.subarray(at), at);
    expect(readStamp(words)).toBe("torn");
  }
});
