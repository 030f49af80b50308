// Waiting for something that may never happen.

/** What `promise` resolves with, or "late" after `timeoutMs`; the promise itself goes on. */
export async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T | "late"> {
  const { promise: late, resolve } = Promise.withResolvers<"late">();
  const timer = setTimeout(() => resolve("late"), timeoutMs);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
