// delay: every request comes to the disk so much later.

import { UsageError } from "../errors.ts";
import { defineFilter } from "../filter.ts";
import { parseMilliseconds } from "../units.ts";
import { every } from "./every.ts";

export const delay = defineFilter({
  name: "delay",
  usage: "delay=TIME",
  summary: "every request takes so much longer",
  parse: (word) => {
    const delayMs = parseMilliseconds(word, "--filter delay");
    if (delayMs > 0) return { delayMs };
    throw new UsageError(`--filter delay=${word} delays nothing`, "at least 1ms");
  },
  open: (below, { delayMs }) => every(below, () => Bun.sleep(delayMs)),
});
