// GET_QUEUE_AFFINITY: the CPUs whose I/O goes to one queue.

import { UBLK_CMD } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

/** 8192 CPUs: the most that Linux can be built for. */
const BITMAP_BYTES = 1024;

/** Replies with a bitmap, bit `n` of byte `n / 8` for CPU `n`. */
export const getQueueAffinity = defineCommand<{ readonly queueId: number }, Uint8Array>({
  name: "GET_QUEUE_AFFINITY",
  op: UBLK_CMD.GET_QUEUE_AFFINITY,
  bufferBytes: BITMAP_BYTES,
  encode: ({ queueId }, frame) => {
    frame.data = BigInt(queueId);
  },
  decode: ({ view }) => new Uint8Array(view.buffer, view.byteOffset, BITMAP_BYTES).slice(),
});
