// Waiting for something that may never happen.

/** What takes back a failed `add` may take this long, however short --timeout is. */
const CLEAN_UP_MS_MIN = 20_000;

/** The deadline of each step that takes a half-made device back. */
export function cleanUpMs(timeoutMs: number): number {
  return Math.max(timeoutMs, CLEAN_UP_MS_MIN);
}

/** A timer's longest; beyond that it would be over at once. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** What `promise` resolves with, or "late" after `timeoutMs`; the promise itself goes on. */
export async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T | "late"> {
  const { promise: late, resolve } = Promise.withResolvers<"late">();
  const timer = setTimeout(() => resolve("late"), Math.min(timeoutMs, TIMER_MS_MAX));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
