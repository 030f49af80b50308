// error: some requests fail, and never come to the disk.

import { BlockError } from "../api/index.ts";
import { UsageError } from "../errors.ts";
import { SEEN_ERRNOS } from "../ffi/errno.ts";
import { defineFilter } from "../filter.ts";
import { parseRate } from "../units.ts";
import { every } from "./every.ts";

export const error = defineFilter({
  name: "error",
  usage: "error=ERRNO[:RATE]",
  summary: "requests fail, all of them, or a part from 0 to 1 or in percent: error=EIO:1%",
  parse: (word) => {
    const [name = "", rate = "1", ...more] = word.split(":");
    const errno = SEEN_ERRNOS.find((known) => known === name.toUpperCase());
    if (errno === undefined || more.length > 0) {
      throw new UsageError(
        `--filter error=${word} is not possible`,
        `the kernel passes on: ${SEEN_ERRNOS.join(", ")}`,
      );
    }
    return { errno, rate: parseRate(rate, "The rate of --filter error") };
  },
  open: (below, { errno, rate }) =>
    every(below, (call) => {
      if (Math.random() < rate) throw new BlockError(errno, `--filter error fails this ${call}`);
    }),
});
