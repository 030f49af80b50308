// A fence that ends, fails, takes too long or is interrupted.

import { expect, test } from "bun:test";

import { fenced } from "../../src/device/fence.ts";
import { UblkError } from "../../src/errors.ts";

const never = new Promise<void>(() => {});
const quiet = () => new AbortController().signal;

test("one that ends lets the recovery begin", async () => {
  await fenced(3, Promise.resolve(), { timeoutMs: 60_000, signal: quiet() });
});

test("one that fails is quoted, and keeps its exit code", async () => {
  const failed = (error: Error) =>
    fenced(3, Promise.reject(error), { timeoutMs: 60_000, signal: quiet() });
  await expect(failed(new Error("no answer"))).rejects.toMatchObject({
    message: "The fence of device 3's target failed: no answer",
    exitCode: 1,
  });
  await expect(failed(new UblkError("changed", { exitCode: 6 }))).rejects.toMatchObject({
    message: "The fence of device 3's target failed: changed",
    exitCode: 6,
  });
});

test("one that does not end is given up at the deadline, with 124", async () => {
  await expect(fenced(3, never, { timeoutMs: 10, signal: quiet() })).rejects.toMatchObject({
    message: "The fence of device 3's target has not ended after 0.01 s",
    exitCode: 124,
  });
});

test("a signal ends the waiting, whether it comes before or later", async () => {
  const abort = new AbortController();
  const waiting = fenced(3, never, { timeoutMs: 60_000, signal: abort.signal });
  const reason = new UblkError("Interrupted");
  abort.abort(reason);
  await expect(waiting).rejects.toBe(reason);
  await expect(fenced(3, never, { timeoutMs: 60_000, signal: abort.signal })).rejects.toBe(reason);
});
