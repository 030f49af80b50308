// The same disk as nop.ts, as a ring target.
import { defineRingTarget } from "ublk-bun";

export default defineRingTarget({
  data: "address",
  open: () => ({ sizeBytes: 1024 ** 3, readOnly: true, fds: [] }),
  serve: ({ queue }) => ({
    start: (tag) => queue.complete(tag, queue.lengthBytes(tag)),
    finish() {},
  }),
});
