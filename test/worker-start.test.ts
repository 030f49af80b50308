// A queue's thread gets ready without the runtime's dear modules: each would be compiled anew in it, while a disk
// without a server waits.

import { expect, test } from "bun:test";

import { liburingPath } from "../src/ffi/liburing.ts";
import { mapMemory } from "../src/ffi/memory.ts";
import type { FromWorker, Prepare } from "../src/queue/protocol.ts";

test("no module of Node's is loaded before a queue serves", async () => {
  const worker = new Worker(new URL("./support/frugal-worker.ts", import.meta.url).href);
  const answered = new Promise<FromWorker>((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
  });
  const page = mapMemory(4096);
  const job: Prepare = {
    kind: "prepare",
    deviceId: 0,
    queueId: 0,
    queueIds: [0],
    queues: 1,
    depth: 16,
    ioBufBytes: 4096,
    ioDescBytes: 24,
    mode: "copy",
    isBatch: false,
    liburing: liburingPath(),
    target: "null",
    spec: { sizeBytes: 1 << 20 },
    facts: {},
    fds: [],
    fanOut: 1,
    progressAddress: page.address,
    stallTimeoutMs: 0,
  };
  worker.postMessage(job);
  expect(await answered).toMatchObject({ kind: "prepared" });
  worker.terminate();
});
