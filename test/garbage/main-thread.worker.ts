// A Worker whose ring goes round without an end; keeps account of it in the memory that it is given.

import { prepNop } from "../../src/ring/ops.ts";
import { openRing } from "../ring/support.ts";

declare const self: Worker & {
  onmessage: ((event: MessageEvent<SharedArrayBuffer>) => void) | null;
};

self.onmessage = ({ data }) => {
  const seen = new Int32Array(data);
  const ring = openRing();
  ring.registerRingFd();
  const ignore = () => {};
  postMessage("ready");
  for (let last = performance.now(); ;) {
    prepNop(ring.sqes, ring.sqe());
    ring.submitAndWait(1);
    ring.reap(ignore);
    Atomics.add(seen, 0, 1);
    const now = performance.now();
    const gapUs = Math.round((now - last) * 1000);
    if (gapUs > Atomics.load(seen, 1)) Atomics.store(seen, 1, gapUs);
    last = now;
  }
};
