// A Worker that sits in its ring: says the ring's descriptor, then every completion that wakes it.

import { liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { Ring } from "../../src/ring/ring.ts";
import { DATA } from "./support.ts";

declare const self: Worker;

const liburing = loadLiburing(liburingPath());
using ring = new Ring({ liburing, entries: 8, cqEntries: 16, flags: DATA });
ring.registerRingFd();
postMessage({ fd: ring.fd });
for (let run = true; run;) {
  ring.submitAndWait(1);
  ring.reap((lo, hi, value, flags) => {
    postMessage({ lo, hi, value, flags });
    if (value === 0) run = false;
  });
}
