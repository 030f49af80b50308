// A Worker whose ring goes round without an end; counts the rounds in the memory that it is given.

import { prepNop } from "../../src/ring/ops.ts";
import { openRing } from "../ring/support.ts";

declare const self: Worker & {
  onmessage: ((event: MessageEvent<SharedArrayBuffer>) => void) | null;
};

self.onmessage = ({ data }) => {
  const served = new Int32Array(data);
  const ring = openRing();
  ring.registerRingFd();
  const ignore = () => {};
  postMessage("ready");
  for (;;) {
    prepNop(ring.sqes, ring.sqe());
    ring.submitAndWait(1);
    ring.reap(ignore);
    Atomics.add(served, 0, 1);
  }
};
