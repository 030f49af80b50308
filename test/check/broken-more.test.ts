// Targets that are wrong where it does not show at once: what two instances keep, what is not filled,
// what is discarded or zeroed at the ends, what is returned, what is answered twice.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";

import {
  type Broken,
  expectBroken,
  type Parts,
  results,
  resultsOf,
  SIZE_BYTES,
} from "../support/checked.ts";

/** What an instance has read it keeps until it changes it itself; `perhaps` may forget more. */
const keeping = (perhaps = ""): Parts => ({
  perQueue: "true",
  state: `
    const kept = new Map<number, Uint8Array>();
    const forget = (at: number, bytes: number) => {
      for (let i = 0; i < bytes; i += 512) kept.delete(at + i);
    };
    const load = (at: number) => {
      const block = new Uint8Array(512);
      readSync(fd, block, 0, 512, at);
      kept.set(at, block);
      return block;
    };
    let changes = 0;`,
  read: `${perhaps}
    for (let i = 0; i < into.length; i += 512) into.set(kept.get(offset + i) ?? load(offset + i), i);`,
  write: "forget(offset, from.length); writeSync(fd, from, 0, from.length, offset);",
  writeZeroes: "forget(offset, length); writeSync(fd, new Uint8Array(length), 0, length, offset);",
  discard: "",
});
const { write: writeForgetting } = keeping() as { readonly write: string };

const BROKEN: readonly Broken[] = [
  [
    "instances that keep what the other has changed",
    keeping(),
    "two queues",
    "expected: what write",
  ],
  [
    "the same, without a check that is made for it",
    keeping(),
    "requests of every size",
    "expected: what write",
  ],
  [
    "instances that hear of each other's writes, but not of zeroes",
    {
      ...keeping(
        "const now = statSync(`${path}.log`, { throwIfNoEntry: false })?.size ?? 0; if (now !== changes) kept.clear(); changes = now;",
      ),
      write: `${writeForgetting} appendFileSync(\`\${path}.log\`, "x");`,
    },
    "two queues",
    "expected: zeroes",
  ],
  [
    "an instance that does not hear that what it has discarded is written",
    {
      perQueue: "true",
      state: "const gone = new Set<number>();",
      discard: "for (let i = 0; i < length; i += 512) gone.add(offset + i);",
      write:
        "for (let i = 0; i < from.length; i += 512) gone.delete(offset + i); writeSync(fd, from, 0, from.length, offset);",
      writeZeroes:
        "for (let i = 0; i < length; i += 512) gone.delete(offset + i); writeSync(fd, new Uint8Array(length), 0, length, offset);",
      read: "readSync(fd, into, 0, into.length, offset); for (let i = 0; i < into.length; i += 512) if (gone.has(offset + i)) into.fill(0, i, i + 512);",
    },
    "two queues",
    "holds zeroes; expected: what write",
  ],
  [
    "a disk that is not zeroed as a whole",
    { writeZeroes: "writeSync(fd, new Uint8Array(65536), 0, Math.min(length, 65536), offset);" },
    "writeZeroes",
    "block 128 (offset 65536) holds what write",
  ],
  [
    "more zeroes than it can",
    {
      sizeBytes: String(8 * 1024 ** 2),
      fileBytes: String(8 * 1024 ** 2),
      writeZeroes:
        "const some = Math.min(length, 524288); writeSync(fd, new Uint8Array(some), 0, some, offset);",
    },
    "writeZeroes",
    "block 1024 (offset 524288) holds what write",
  ],
  [
    "a first block that is never zeroed",
    {
      writeZeroes:
        "if (offset > 0) writeSync(fd, new Uint8Array(length), 0, length, offset); else if (length > 512) writeSync(fd, new Uint8Array(length), 0, length - 512, 512);",
    },
    "writeZeroes",
    "block 0 (offset 0) holds what write",
  ],
  [
    "a last block whose discard takes its neighbour with it",
    {
      discard: `if (offset + length === ${SIZE_BYTES}) writeSync(fd, new Uint8Array(512), 0, 512, offset - 512);`,
    },
    "discard",
    `block ${SIZE_BYTES / 512 - 2} (offset ${SIZE_BYTES - 1024}) holds zeroes`,
  ],
  [
    "a discard that is too much",
    { discard: 'if (length > 65536) throw new Error("too much");' },
    "discard",
    "too much",
  ],
  [
    "a flush that is a generator, which never runs",
    { flush: "return (async function* () { fsyncSync(fd); })() as never;" },
    "what was flushed",
    "flush: it returned something of type object: it must return nothing",
  ],
  [
    "a discard that returns something",
    { discard: "return true as never;" },
    "discard",
    "it returned something of type boolean: it must return nothing",
  ],
  [
    "zeroes that return their length",
    { writeZeroes: "return length as never;" },
    "writeZeroes",
    "it must return nothing",
  ],
  [
    "one write that fails among those under way",
    {
      state: "let writes = 0;",
      write:
        'if (++writes === 17) throw new BlockError("ENOSPC", "all full"); await sleep(20); writeSync(fd, from, 0, from.length, offset);',
    },
    "killed with requests under way",
    "ENOSPC: all full",
  ],
  [
    "a process that ends between two requests",
    {
      read: "readSync(fd, into, 0, into.length, offset); if (into.length === 512) setImmediate(() => process.exit(7));",
    },
    "writes the first block",
    "the target ended its process (exit code 7)",
  ],
];

for (const broken of BROKEN) {
  const [what, , name] = broken;
  test(`${what}: said by "${name}…"`, () => expectBroken(broken), 120_000);
}

test("0 is as good as nothing where there is no data", async () => {
  const zero = "return 0 as never;";
  const parts = { flush: `fsyncSync(fd); ${zero}`, discard: zero };
  const found = await results(parts, ["discard", "what was flushed"]);
  expect(found.filter(({ outcome }) => outcome !== "passed")).toEqual([]);
}, 120_000);

const FIRST = "what is on the disk is read";

test("a read-only disk whose reads fill nothing fails before anything else", async () => {
  const found = await results({ shape: "readOnly: true,", read: "" }, []);
  expect(found.map(({ name, outcome }) => [name, outcome])).toEqual([
    ["opens", "passed"],
    [FIRST, "failed"],
  ]);
  expect(found[1]!.detail).toStartWith(
    "read of 128 KiB at 0: it did not fill all of `into`: from byte 0 on (offset 0)",
  );
}, 120_000);

test("a disk that is larger than its file fails, and the file is left as it is", async () => {
  const sizeBytes = 1024 ** 2;
  let left: Buffer | undefined;
  const found = await results({ sizeBytes: String(sizeBytes) }, [], {
    fileBytes: sizeBytes - 4096,
    after: (path) => (left = readFileSync(path)),
  });
  expect(found.at(-1)).toMatchObject({ name: FIRST, outcome: "failed" });
  expect(found.at(-1)!.detail).toStartWith(
    "read of 512 KiB at 524288: it did not fill all of `into`: from byte 520192 on (offset 1044480)",
  );
  expect(left!.equals(Buffer.alloc(sizeBytes - 4096))).toBe(true);
}, 120_000);

test("a few bytes that are never filled are not taken for what is on the disk", async () => {
  const read = "readSync(fd, into, 0, into.length - 4, offset);";
  const found = await results({ read }, []);
  expect(found.at(-1)).toMatchObject({ name: FIRST, outcome: "failed" });
  expect(found.at(-1)!.detail).toContain(
    "holds bytes that nobody wrote there; expected: what was there before",
  );
}, 120_000);

for (const [what, answers] of [
  ["answers a request twice", "queue.complete(tag, bytes); queue.complete(tag, bytes);"],
  ["throws before it has answered", 'throw new Error("too early");'],
  ["throws once it has answered", 'queue.complete(tag, bytes); throw new Error("too late");'],
] as const) {
  test(`a ring target that ${what} fails`, async () => {
    const text = `import { defineRingTarget } from "ublk-bun";
export default defineRingTarget({
  data: "address",
  params: { path: { type: "path" } },
  open: () => ({ sizeBytes: ${SIZE_BYTES}, fds: [], readOnly: true }),
  serve: ({ queue }) => ({
    start(tag) {
      const bytes = queue.lengthBytes(tag);
      if (bytes > 512) return queue.complete(tag, bytes);
      ${answers}
    },
    finish() {},
  }),
});
`;
    const found = await resultsOf(text, ["reads the same"], { instances: 2 });
    expect(found.filter(({ outcome }) => outcome === "failed")).toEqual([
      {
        name: "reads the same again, in other pieces and in any order",
        outcome: "failed",
        detail: expect.stringContaining("the target ended its process (exit code 1)"),
      },
    ]);
  }, 120_000);
}
