// A server whose steps a test decides: it opens a device of mode "copy", fetches queue N when it reads N on
// its stdin, says so, answers every request with nothing, and ends when the kernel has taken all back.
//
//   bun by-hand.main.ts ID DEPTH IO_BUF_BYTES

import { O, open } from "../../src/ffi/libc.ts";
import { liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { IORING_SETUP } from "../../src/ffi/uring.ts";
import { openBuffers } from "../../src/queue/buffers.ts";
import { Descriptors } from "../../src/queue/descs.ts";
import { assertNotRefused, Queue } from "../../src/queue/queue.ts";
import { TagMemory } from "../../src/queue/tag-memory.ts";
import { Ring } from "../../src/ring/ring.ts";
import { nullResult } from "../../src/targets/null.ts";

const IO_DESC_BYTES = 24;
const ROUND_MS = 2;

const [id = 0, depth = 0, ioBufBytes = 0] = process.argv.slice(2).map(Number);
const liburing = loadLiburing(liburingPath());
const charFd = open(`/dev/ublkc${id}`, O.RDWR | O.CLOEXEC);
if (charFd < 0) throw new Error(`/dev/ublkc${id} cannot be opened: ${charFd}`);
const queues: Queue[] = [];

function fetchQueue(queueId: number): void {
  const ring = new Ring({
    liburing,
    entries: 2 * depth,
    cqEntries: 4 * depth,
    flags: IORING_SETUP.SINGLE_ISSUER | IORING_SETUP.DEFER_TASKRUN,
  });
  ring.registerFiles([charFd]);
  const descriptors = new Descriptors(charFd, queueId, depth, IO_DESC_BYTES);
  const options = { mode: "copy", ring, depth, bytesPerTag: ioBufBytes, data: "none" } as const;
  const memory = new TagMemory({ depth, bytesPerTag: ioBufBytes, shared: true });
  const file = { queueId, charFd, charFile: 0 } as const;
  const buffers = openBuffers({ ...options, ...file, memory, descriptors });
  const nothing = () => {};
  const both = { onOrder: nothing, onNote: nothing };
  const queue = new Queue({ id: queueId, depth, ring, charFile: 0, descriptors, buffers, ...both });
  const start = (tag: number) => queue.complete(tag, nullResult(queue, tag));
  queue.prime({ kind: "ring", start, finish: nothing });
  queues.push(queue);
  round(queue);
}

function round(queue: Queue): void {
  queue.ring.submitAndWait(0);
  queue.ring.reap(queue.onCompletion);
  assertNotRefused(queue);
}

process.stdin.on("data", (text) => {
  const queueId = Number(String(text));
  fetchQueue(queueId);
  process.stdout.write(`fetched ${queueId}\n`);
});
setInterval(() => {
  for (const queue of queues) round(queue);
  if (queues.length > 0 && queues.every(({ finished }) => finished)) process.exit(0);
}, ROUND_MS);
