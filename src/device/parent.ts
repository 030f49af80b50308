// What a daemon that waits for its moment hears from whoever has started it, on its stdin.

import { UblkError } from "../errors.ts";

/** Resolves when a line comes; throws when none is to come any more, or `signal` is aborted. */
export async function untilTold(signal: AbortSignal): Promise<void> {
  const over = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => over.reject(signal.reason as Error), { once: true });
  if (signal.aborted) over.reject(signal.reason as Error);
  const { done } = await Promise.race([Bun.stdin.stream().getReader().read(), over.promise]);
  if (done) throw new UblkError("Not needed: nothing was changed");
}
