// A disk that its thread is done with: in which order it is flushed, is nobody's any more, and is closed.

import { expect, test } from "bun:test";

import { closeInstance, flushInstance } from "../../src/script/instance.ts";

const steps: string[] = [];
const step = (name: string) => async () => {
  await Bun.sleep(1);
  steps.push(name);
};

test("others stop waiting for it once it is flushed, not once it is closed", async () => {
  steps.length = 0;
  const onFlushed = () => steps.push("flushed");
  await closeInstance({ flush: step("flush"), close: step("close") }, onFlushed);
  expect(steps).toEqual(["flush", "flushed", "close"]);
});

test("a flush that fails is never taken for done", async () => {
  steps.length = 0;
  const flush = () => Promise.reject(new Error("full"));
  const onFlushed = () => steps.push("flushed");
  await expect(closeInstance({ flush }, onFlushed)).rejects.toThrow("full");
  expect(steps).toEqual([]);
});

test("a flush that returns something has not flushed", async () => {
  async function* generator() {
    yield 1;
  }
  const said = "it returned something of type object: it must return nothing";
  await expect(flushInstance({ flush: generator as never })).rejects.toThrow(said);
  await expect(flushInstance({ flush: async () => 0 as never })).resolves.toBeUndefined();
  await expect(flushInstance({})).resolves.toBeUndefined();
});
