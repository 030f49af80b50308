// What the model of a disk allows, and what it does not.

import { expect, test } from "bun:test";

import { dataLabel, ZEROES } from "../../src/check/content.ts";
import { Model } from "../../src/check/model.ts";

function model(isVolatile = true): Model {
  const made = new Model({ blockBytes: 512, isVolatile });
  made.adopt(0, ZEROES);
  return made;
}

const isRight = (made: Model, label: string) => made.judge(0, label, made.mark()) === undefined;

test("a write is seen from its answer on", () => {
  const it = model();
  const version = it.begin("data", 0, 1);
  it.end(version, false);
  expect(isRight(it, dataLabel(version, 0))).toBe(true);
  expect(isRight(it, ZEROES)).toBe(false);
  expect(isRight(it, dataLabel(version, 1))).toBe(false);
});

test("of two writes at once either may be seen, and then it alone", () => {
  const it = model();
  const [a, b] = [it.begin("data", 0, 1), it.begin("data", 0, 1)];
  it.end(b, false);
  it.end(a, false);
  expect(isRight(it, ZEROES)).toBe(false);
  expect(isRight(it, dataLabel(b, 0))).toBe(true);
  expect(isRight(it, dataLabel(a, 0))).toBe(false);
});

test("a crash may lose what was not flushed, and nothing else", () => {
  const it = model();
  const a = it.begin("data", 0, 1);
  it.end(a, false);
  it.endFlush(it.mark());
  const b = it.begin("data", 0, 1);
  it.end(b, false);
  it.crash();
  expect(isRight(it, ZEROES)).toBe(false);
  expect(isRight(it, dataLabel(a, 0))).toBe(true);
  // It was lost, and does not come back.
  expect(isRight(it, dataLabel(b, 0))).toBe(false);
  it.endFlush(it.mark());
  it.crash();
  expect(isRight(it, dataLabel(a, 0))).toBe(true);
});

test("a flush does not bring back what a crash before it may have lost", () => {
  const it = model();
  const a = it.begin("data", 0, 1);
  it.end(a, false);
  it.crash();
  it.endFlush(it.mark());
  it.crash();
  expect(isRight(it, ZEROES)).toBe(true);
});

test("without a cache, or with fua, nothing that was answered may be lost", () => {
  for (const [isVolatile, fua] of [
    [false, false],
    [true, true],
  ] as const) {
    const it = model(isVolatile);
    const a = it.begin("data", 0, 1);
    it.end(a, fua);
    it.crash();
    expect(isRight(it, ZEROES)).toBe(false);
  }
});

test("what was under way in a crash may be anything, until it is written again", () => {
  const it = model();
  const a = it.begin("data", 0, 1);
  it.crash();
  expect(isRight(it, "#torn")).toBe(true);
  it.again(a);
  it.end(a, false);
  expect(isRight(it, "#torn")).toBe(false);
  expect(isRight(it, dataLabel(a, 0))).toBe(true);
  // Written again, but not flushed: the next crash may lose it.
  it.crash();
  expect(isRight(it, ZEROES)).toBe(true);
});

test("a discarded block may be anything, a refused request changes nothing", () => {
  const it = model();
  it.refused(it.begin("zeroes", 0, 1));
  expect(isRight(it, "#other")).toBe(false);
  it.end(it.begin("anything", 0, 1), false);
  expect(isRight(it, "#other")).toBe(true);
});

test("a write after a crash whose outcome nobody has read may be lost in the next one", () => {
  const it = model();
  it.end(it.begin("data", 0, 1), false);
  it.crash();
  const b = it.begin("data", 0, 1);
  it.end(b, false);
  expect(isRight(it, dataLabel(b, 0))).toBe(true);
  it.crash();
  expect(isRight(it, ZEROES)).toBe(true);
});
