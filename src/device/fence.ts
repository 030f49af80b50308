// A target's fence under way: its end, its failure or its deadline, and nothing of the device is changed.

import { EXIT, messageOf, UblkError } from "../errors.ts";
import type { WaitOptions } from "./attach.ts";
import { within } from "./deadline.ts";

/** Resolves when it has ended. Throws what keeps the recovery from beginning; 124: it is late. */
export async function fenced(
  id: number,
  fencing: Promise<void>,
  { timeoutMs, signal }: WaitOptions,
): Promise<void> {
  const what = `The fence of device ${id}'s target`;
  const interrupted = Promise.withResolvers<never>();
  const onAbort = () => interrupted.reject(signal.reason as Error);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    const end = await within(timeoutMs, Promise.race([fencing, interrupted.promise]));
    if (end !== "late") return;
  } catch (error) {
    if (signal.aborted) throw error;
    throw new UblkError(`${what} failed: ${messageOf(error)}`, {
      cause: error,
      ...(error instanceof UblkError && { exitCode: error.exitCode }),
      hint: "nothing was changed; when it can do its work, recover again",
    });
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
  throw new UblkError(`${what} has not ended after ${timeoutMs / 1000} s`, {
    exitCode: EXIT.timedOut,
    hint: "nothing was changed; one that takes longer needs a longer --timeout",
  });
}
