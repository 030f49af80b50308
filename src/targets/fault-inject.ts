// fault_inject: null, until a request touches a chosen offset; then its Worker fails in a chosen way.
// For tests and demonstrations of what a crash looks like.

import { UsageError } from "../errors.ts";
import { exitThread } from "../ffi/libc.ts";
import { defineTarget, type QueueContext } from "../target.ts";
import { parseBytes, parseDiskSize } from "../units.ts";
import { NULL_BLOCK_BYTES, nullGeometry, nullResult, openNothing, sizeArg } from "./null.ts";

/** What happens to the Worker, by the name given to `--fault`. */
const FAULTS: Readonly<Record<string, (queue: QueueContext, tag: number) => void>> = {
  /** An exception nobody expected. */
  throw: () => {
    throw new Error("fault_inject: thrown on purpose");
  },
  /** The Worker's own process.exit(), which ends only the Worker. */
  exit: () => process.exit(3),
  /** The thread is gone without a word. */
  "thread-exit": () => exitThread(),
  /** An endless synchronous loop. */
  loop: () => {
    for (let i = 0; ; i++) if (i < 0) return;
  },
  /** The request is taken and never completed. */
  swallow: () => {},
  /** Completed with an I/O error, the ordinary way to fail. */
  eio: (queue, tag) => queue.complete(tag, -5),
};

export const faultInject = defineTarget({
  name: "fault_inject",
  summary: "null with a chosen fault at a chosen offset; for tests and demonstrations",
  data: "none",
  args: {
    size: sizeArg,
    fault: {
      type: "string",
      description: `what happens: ${Object.keys(FAULTS).join(", ")}`,
      valueHint: "FAULT",
      default: "eio",
    },
    "fault-at": {
      type: "string",
      description: "it happens to requests that touch this offset",
      valueHint: "BYTES",
      default: "1GiB",
    },
  },
  parse: ({ size, fault, "fault-at": faultAt }) => {
    if (!Object.hasOwn(FAULTS, fault)) {
      throw new UsageError(`Unknown --fault "${fault}"`, Object.keys(FAULTS).join(", "));
    }
    return {
      sizeBytes: parseDiskSize(size, NULL_BLOCK_BYTES),
      fault,
      faultAtBytes: parseBytes(faultAt, "--fault-at"),
    };
  },
  open: async ({ sizeBytes }) => openNothing(nullGeometry(sizeBytes)),
  serve: ({ fault, faultAtBytes }, { queue }) => {
    const happen = FAULTS[fault]!;
    return {
      kind: "ring",
      start: (tag) => {
        const lengthBytes = queue.lengthBytes(tag);
        const offsetBytes = lengthBytes === 0 ? -1 : queue.offsetBytes(tag);
        const hit = offsetBytes <= faultAtBytes && faultAtBytes < offsetBytes + lengthBytes;
        if (hit) happen(queue, tag);
        else queue.complete(tag, nullResult(queue, tag));
      },
      finish: () => {},
    };
  },
});
