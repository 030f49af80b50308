// rate: reads and writes together move no more than so many bytes a second.

import { UsageError } from "../errors.ts";
import { defineFilter } from "../filter.ts";
import { parseBytes } from "../units.ts";
import { every } from "./every.ts";

export const rate = defineFilter({
  name: "rate",
  usage: "rate=BYTES_PER_S",
  summary: "reads and writes move no more than so many bytes a second",
  parse: (word) => {
    const bytesPerSecond = parseBytes(word.replace(/\/s$/, ""), "--filter rate");
    if (bytesPerSecond > 0) return { bytesPerSecond };
    throw new UsageError("--filter rate=0 lets nothing through", "such as rate=10MiB");
  },
  open: (below, { bytesPerSecond }) => {
    /** When what was let through is through: from then on the next one moves. */
    let freeMs = 0;
    return every(below, async (call, length) => {
      if (call !== "read" && call !== "write") return;
      const nowMs = performance.now();
      freeMs = Math.max(freeMs, nowMs) + (length * 1000) / bytesPerSecond;
      if (freeMs > nowMs) await Bun.sleep(freeMs - nowMs);
    });
  },
});
