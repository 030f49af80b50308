// A Worker that sits in its ring: says the ring's descriptor, then every completion that wakes it.

import { openRing, reapAll } from "./support.ts";

using ring = openRing();
ring.registerRingFd();
postMessage({ fd: ring.fd });
for (;;) {
  ring.submitAndWait(1);
  const found = reapAll(ring);
  for (const [lo, hi, value, flags] of found) postMessage({ lo, hi, value, flags });
  if (found.some(([, , value]) => value === 0)) break;
}
