// Targets that are wrong in one way each: the check that is there for it fails, and says what it is.

import { expect, test } from "bun:test";

import { checks } from "../../src/check/checks.ts";
import type { Result } from "../../src/check/run.ts";
import { type Broken, expectBroken, results, SIZE_BYTES } from "../support/checked.ts";

const memory = `const bytes = new Uint8Array(${SIZE_BYTES});`;
const inMemory = {
  read: "into.set(bytes.subarray(offset, offset + into.length));",
  write: "bytes.set(from, offset);",
};
const cached = `
    const cache = new Map<number, Uint8Array>();
    const load = (at: number) => { const b = new Uint8Array(512); readSync(fd, b, 0, 512, at); return b; };
    const save = () => { for (const [at, b] of cache) writeSync(fd, b, 0, 512, at); cache.clear(); };`;
const readCached =
  "for (let i = 0; i < into.length; i += 512) into.set(cache.get(offset + i) ?? load(offset + i), i);";
const writeCached =
  "for (let i = 0; i < from.length; i += 512) cache.set(offset + i, from.slice(i, i + 512));";

const BROKEN: readonly Broken[] = [
  [
    "two instances of a memory disk",
    { ...inMemory, state: memory, perQueue: "true" },
    "two queues",
    "expected: what write 1 put there",
  ],
  [
    "memory that dies with its process",
    { ...inMemory, state: memory },
    "what was flushed",
    "holds ",
  ],
  [
    "a last block that is forgotten",
    {
      write: `if (offset + from.length < ${SIZE_BYTES}) writeSync(fd, from, 0, from.length, offset);`,
    },
    "writes the first block",
    `block ${SIZE_BYTES / 512 - 1} (offset ${SIZE_BYTES - 512})`,
  ],
  [
    "an offset that is off by a block",
    {
      read: "readSync(fd, into, 0, into.length, offset ^ 512);",
      fileBytes: String(SIZE_BYTES + 512),
    },
    "writes the first block",
    "expected: what write 1 put there",
  ],
  [
    "a view's byteOffset that is ignored",
    { read: "readSync(fd, new Uint8Array(into.buffer), 4096, into.length + 600, offset);" },
    "writes the first block",
    "wrote beyond its buffer",
  ],
  [
    "a view that is kept",
    {
      state: "const kept = new Map<number, Uint8Array>();",
      write:
        "for (let i = 0; i < from.length; i += 512) kept.set(offset + i, from.subarray(i, i + 512));",
      read: "for (let i = 0; i < into.length; i += 512) into.set(kept.get(offset + i) ?? new Uint8Array(512), i);",
    },
    "writes the first block",
    "keep a copy of the data (from.slice())",
  ],
  [
    "a short answer",
    {
      read: "return readSync(fd, into, 0, into.length, offset) - (into.length === 512 ? 256 : 0);",
    },
    "writes the first block",
    "read of 512 B at 0: it returned 256, not 512 or nothing",
  ],
  [
    "a buffer that is not always filled",
    { read: "if (into.length !== 512) readSync(fd, into, 0, into.length, offset);" },
    "writes the first block",
    "read of 512 B at 0: it did not fill all of `into`: from byte 0 on (offset 0)",
  ],
  [
    "an exception",
    { write: 'throw new TypeError("no such row");' },
    "neighbouring",
    "ts:14:54: no such row",
  ],
  [
    "an errno",
    { flush: 'await sleep(1); throw new BlockError("ENOSPC", "all full");' },
    "what was flushed",
    "ENOSPC: all full",
  ],
  [
    "a promise that never settles",
    {
      read: "if (into.length === 512) await new Promise(() => {}); readSync(fd, into, 0, into.length, offset);",
      timeoutMs: "1500",
    },
    "reads the same",
    "read of 512 B at 0: not answered within 1500 ms: its promise never settles",
  ],
  [
    "an endless loop",
    { write: "for (;;);", timeoutMs: "1500" },
    "writes the first block",
    "the thread does nothing else meanwhile; an endless loop",
  ],
  [
    "process.exit",
    { write: "process.exit(7);" },
    "writes the first block",
    "the target ended its process (exit code 7)",
  ],
  [
    "an exception in a timer",
    { write: 'setTimeout(() => { throw new Error("late"); }, 1); await sleep(10000);' },
    "writes the first block",
    "the target ended its process (exit code 1)",
  ],
  [
    "read-modify-write of neighbours at once",
    {
      write: `const start = offset - (offset % 4096), end = Math.ceil((offset + from.length) / 4096) * 4096;
        const chunk = new Uint8Array(end - start);
        readSync(fd, chunk, 0, chunk.length, start);
        const data = from.slice();
        await sleep(1);
        chunk.set(data, offset - start);
        writeSync(fd, chunk, 0, chunk.length, start);`,
    },
    "neighbouring",
    "expected: what write",
  ],
  [
    "data that is changed where it lies",
    { write: "from[3]! ^= 255; writeSync(fd, from, 0, from.length, offset);" },
    "writes the first block",
    "changed byte 3 of the data that it was given",
  ],
  [
    "a buffer that is used after the answer",
    {
      read: "readSync(fd, into, 0, into.length, offset); if (into.length < 65536) setImmediate(() => into.fill(1));",
    },
    "two queues",
    "its buffer was changed after it was answered",
  ],
  [
    "a buffer that is given away",
    {
      before: "const { port1 } = new MessageChannel();",
      write:
        "writeSync(fd, from, 0, from.length, offset); port1.postMessage(from, [from.buffer as ArrayBuffer]);",
    },
    "writes the first block",
    "its buffer was given away",
  ],
  [
    "a write that is done after its answer",
    {
      write:
        "const data = from.slice(); setTimeout(() => writeSync(fd, data, 0, data.length, offset), 30);",
    },
    "writes the first block",
    "expected: what write",
  ],
  [
    "aligned words",
    {
      read: "readSync(fd, new BigUint64Array(into.buffer, into.byteOffset, into.length / 8), 0, into.length, offset);",
    },
    "buffers anywhere",
    "read of",
  ],
  [
    "a discard that goes too far",
    {
      discard: `const start = offset - (offset % 4096), end = Math.ceil((offset + length) / 4096) * 4096;
        writeSync(fd, new Uint8Array(end - start), 0, end - start, start);`,
    },
    "discard",
    "holds zeroes; expected: what write",
  ],
  ["zeroes that are not written", { writeZeroes: "" }, "writeZeroes", "expected: zeroes"],
  [
    "a flush that does nothing",
    {
      state: cached,
      read: readCached,
      write: writeCached,
      flush: "",
      close: "save(); closeSync(fd);",
    },
    "what was flushed",
    "expected: what write",
  ],
  [
    "a fua that is not heeded",
    { state: cached, read: readCached, write: writeCached, flush: "save(); fsyncSync(fd);" },
    "a write with fua",
    "expected: what write",
  ],
  [
    "a close that forgets",
    { state: cached, read: readCached, write: writeCached, flush: "", close: "" },
    "closed and opened",
    "expected: what write",
  ],
  [
    "a disk that is read at its opening",
    {
      state: `${memory} readSync(fd, bytes, 0, bytes.length, 0);`,
      ...inMemory,
      flush: "writeSync(fd, bytes, 0, bytes.length, 0);",
    },
    "opened while another",
    "expected: what write",
  ],
];

for (const broken of BROKEN) {
  const [what, , name] = broken;
  test(`${what}: said by "${name}…"`, () => expectBroken(broken), 120_000);
}

const detailOf = (found: readonly Result[], name: string) =>
  found.find((each) => each.name.startsWith(name))!.detail;

test("a target that says that no request may run twice is sent none twice", async () => {
  const name = "killed with requests under way";
  const found = await results({}, [name], { isRepeatable: false });
  const result = found.find((each) => each.name.startsWith(name));
  expect(result).toMatchObject({
    outcome: "left out",
    detail: "it says that it does harm to run a request twice",
  });
}, 120_000);

test("the same target, right: every check passes", async () => {
  const found = await results(
    {},
    checks.map(({ name }) => name),
  );
  expect(found.filter(({ outcome }) => outcome !== "passed")).toEqual([]);
  expect(found.length).toBe(checks.length + 2);
  expect(detailOf(found, "what was flushed")).toBeUndefined();
}, 120_000);

test("a cache that is written at each flush is right, too", async () => {
  const right = {
    state: cached,
    read: readCached,
    write: `${writeCached} if (fua) { save(); fsyncSync(fd); }`,
    writeZeroes: "save(); writeSync(fd, new Uint8Array(length), 0, length, offset);",
    flush: "save(); fsyncSync(fd);",
  };
  const found = await results(
    right,
    checks.map(({ name }) => name),
  );
  expect(found.filter(({ outcome }) => outcome !== "passed")).toEqual([]);
  expect(detailOf(found, "what was flushed")).toContain("what was not flushed was lost");
}, 120_000);

test("null is as good as nothing for an answer", async () => {
  const read = "readSync(fd, into, 0, into.length, offset); return null as never;";
  const found = await results({ read }, ["reads the same"]);
  expect(found.filter(({ outcome }) => outcome !== "passed")).toEqual([]);
}, 120_000);
