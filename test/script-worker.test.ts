// The thread that serves a target's file: what is wrong with the disk is said before a device is made.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { liburingPath } from "../src/ffi/liburing.ts";
import { mapMemory } from "../src/ffi/memory.ts";
import type { FromWorker, ToScriptWorker } from "../src/queue/protocol.ts";
import type { ScriptSpec } from "../src/script/target.ts";
import { scriptTarget } from "../src/script/target.ts";
import { spawnScriptWorker } from "../src/spawn.ts";
import { findTarget } from "../src/targets/index.ts";

const folder = mkdtempSync(join(tmpdir(), "script-worker-"));
afterAll(() => rmSync(folder, { recursive: true }));

class Thread implements Disposable {
  readonly #worker = spawnScriptWorker("test");

  ask(message: ToScriptWorker): Promise<FromWorker> {
    return new Promise((resolve, reject) => {
      this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => resolve(data);
      this.#worker.onerror = (event) => reject(new Error(event.message));
      this.#worker.postMessage(message);
    });
  }

  [Symbol.dispose](): void {
    this.#worker.terminate();
  }
}

let count = 0;

/** Writes a target whose disk has these members, and opens it; `edit` changes the file before that. */
async function open(thread: Thread, members: string, top = "", edit = (_file: string) => {}) {
  const file = join(folder, `disk${count++}.ts`);
  writeFileSync(
    file,
    `import { BlockError, defineTarget } from "ublk-bun";
${top}
export default defineTarget({
  open: () => ({
    sizeBytes: 1 << 20,
    read: (offset: number, into: Uint8Array) => void into.fill(offset),
    ${members}
  }),
});
`,
  );
  const target = scriptTarget(file);
  let sources: readonly string[] = [];
  try {
    await target.load?.();
    const parsed = target.parse({ "io-timeout": "500ms" } as never) as unknown as ScriptSpec;
    ({ sources } = parsed);
  } catch {
    // What cannot be loaded here, cannot there.
    const { sourcesOf } = await import("../src/script/sources.ts");
    sources = sourcesOf(file);
  }
  edit(file);
  const plain = { kind: "target", data: "address", perQueue: false, fanOut: 1 } as const;
  const spec = { ...plain, params: [], env: [], ioTimeoutMs: 500, sources, claims: [] };
  const context = { deviceId: 0, identity: "x", isNew: true, queueId: 0, queues: 2 };
  const progressAddress = mapMemory(4096).address;
  const disk = { target: file, spec, filters: [], base: undefined, liburing: liburingPath() };
  const answer = await thread.ask({ kind: "open", ...disk, context, progressAddress });
  return { answer, file, spec, progressAddress };
}

test("a disk that can be read is opened, and has rings and buffers for all its queues", async () => {
  using thread = new Thread();
  const { answer, file, spec, progressAddress } = await open(thread, "flush() {}, write() {},");
  expect(answer).toMatchObject({
    kind: "opened",
    geometry: { sizeBytes: 1 << 20, readOnly: false, volatileCache: true, fua: false },
  });
  const device = {
    deviceId: 0,
    queueId: 0,
    queueIds: [0, 1],
    queues: 2,
    depth: 16,
    mode: "copy",
  } as const;
  const sizes = {
    ioBufBytes: 524_288,
    ioDescBytes: 24,
    fanOut: 1,
    stallTimeoutMs: 0,
    isBatch: false,
  };
  const rest = {
    liburing: liburingPath(),
    target: file,
    spec,
    facts: {},
    fds: [],
    progressAddress,
  };
  const prepared = await thread.ask({ kind: "prepare", ...device, ...sizes, ...rest });
  expect(prepared.kind).toBe("prepared");
});

test("a ring target that main has opened is served under its filters", async () => {
  using thread = new Thread();
  const context = { deviceId: 0, identity: "f".repeat(16), isNew: true, queueId: 0, queues: 1 };
  const target = findTarget("mem");
  const spec = target.parse({ size: "64KiB" } as never);
  await using backing = await target.open(spec, { ...context, note: () => {} });
  try {
    const { geometry, fds, facts } = backing;
    const filters = [{ name: "offset", spec: { offsetBytes: 4096 } }];
    const progressAddress = mapMemory(4096).address;
    const base = { geometry, fds, facts };
    const disk = { target: "mem", spec, filters, base, liburing: liburingPath() };
    const answer = await thread.ask({ kind: "open", ...disk, context, progressAddress });
    expect(answer).toMatchObject({
      kind: "opened",
      geometry: { sizeBytes: 61_440, readOnly: false, volatileCache: false },
    });
  } finally {
    await target.remove!(spec, context);
  }
});

const wrong: Readonly<Record<string, readonly [members: string, said: string, top?: string]>> = {
  "a read that throws": [
    'read: () => { throw new Error("no luck"); },',
    ":7: reading the first block failed: no luck",
  ],
  "a read that rejects": [
    'async read() { await 1; throw new BlockError("ENXIO"); },',
    ":7: reading the first block failed: ENXIO",
  ],
  "a read that returns short": [
    "read: () => 100,",
    ":7: reading the first block returned 100: read must fill all of `into` (4096 bytes), and return nothing",
  ],
  "a read that hangs": [
    "read: () => new Promise<void>(() => {}),",
    ":7: reading the first block has not ended after 0.5 s",
  ],
  "a read that ends the process": [
    "read: () => { process.exit(3); },",
    ":7: reading the first block failed: the target called process.exit(3)",
  ],
  "a read that allocates wildly": [
    "read: () => void new Uint8Array(2 ** 52),",
    ":7: reading the first block failed: Out of memory",
  ],
  "a size that is none": [
    "sizeBytes: 1000,",
    ":3: sizeBytes is 1000: a multiple of 512, from 4096 to less than 8 PiB",
  ],
  "a write that is no function": [
    "write: 4,",
    ":3: open returned a disk whose write is not a function",
  ],
};

for (const [what, [members, said, top]] of Object.entries(wrong)) {
  test(`${what}: said with file and line`, async () => {
    using thread = new Thread();
    const { answer, file } = await open(thread, members, top);
    // The column is the runtime's business.
    const message = answer.kind === "failed" ? answer.message.replace(/:(\d+):\d+: /, ":$1: ") : "";
    expect(message).toBe(`${file}${said}`);
  });
}

test("code that has changed since its record was made is not run as if it had not", async () => {
  using thread = new Thread();
  const edit = (file: string) => writeFileSync(file, "\n// another\n", { flag: "a" });
  const { answer, file } = await open(thread, "", "", edit);
  expect(answer).toMatchObject({
    kind: "failed",
    message: `The target's code has changed: ${file}`,
    exitCode: 6,
  });
});
