// Entry of a thread that ends the process when a person's file keeps the main thread busy instead of
// getting loaded: no timer of that thread would ever come.

import { EXIT } from "./errors.ts";
import { _exit } from "./ffi/libc.ts";
import type { LoadWatch } from "./script/guard.ts";
import { tryWrite } from "./write.ts";

declare const self: Worker & { onmessage: ((event: MessageEvent<LoadWatch>) => void) | null };

self.onmessage = ({ data: { ended, limitMs, text } }) => {
  if (Atomics.wait(ended, 0, 0, limitMs) === "timed-out") {
    tryWrite(2, text);
    _exit(EXIT.timedOut);
  }
  // This thread alone.
  process.exit();
};
