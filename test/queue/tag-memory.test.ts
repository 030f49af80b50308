// The data buffers of a queue: one a tag, or one for all; and what is said when they do not fit.

import { expect, test } from "bun:test";

import { viewInt32 } from "../../src/ffi/memory.ts";
import { TagMemory } from "../../src/queue/tag-memory.ts";

const MIB = 1024 ** 2;

test("each tag has its own page-aligned buffer, across mappings", () => {
  using buffers = new TagMemory({ depth: 100, bytesPerTag: 32 * MIB, shared: false });
  const addresses = Array.from({ length: 100 }, (_, tag) => buffers.address(tag)).toSorted(
    (a, b) => a - b,
  );
  for (const [i, address] of addresses.entries()) {
    expect(address % 4096).toBe(0);
    if (i > 0) expect(address - addresses[i - 1]!).toBeGreaterThanOrEqual(32 * MIB);
  }
});

test("a target that never looks at the data has one buffer for all tags", () => {
  using buffers = new TagMemory({ depth: 4096, bytesPerTag: 32 * MIB, shared: true });
  expect(buffers.address(4095)).toBe(buffers.address(0));
});

test("a buffer that is replaced stays mapped, and nobody gets it again", () => {
  using buffers = new TagMemory({ depth: 4, bytesPerTag: 4096, shared: false });
  const old = buffers.address(1);
  const others = [0, 2, 3].map((tag) => buffers.address(tag));
  buffers.replace(1);
  const now = buffers.address(1);
  expect([old, ...others]).not.toContain(now);
  expect([0, 2, 3].map((tag) => buffers.address(tag))).toEqual(others);
  viewInt32(old, 4096).fill(1);
  expect(viewInt32(now, 4096).every((word) => word === 0)).toBe(true);
});

test("what cannot fit is refused with the arithmetic, and given back", () => {
  // A process of its own, whose address space is bounded: 128 GiB of buffers do not fit into it.
  const script = `
    import { readFileSync } from "node:fs";
    import { TagMemory } from "${import.meta.dir}/../../src/queue/tag-memory.ts";
    const kib = () => Number(/VmData:\\s+(\\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
    const before = kib();
    try { new TagMemory({ depth: 4096, bytesPerTag: ${32 * MIB}, shared: false }); }
    catch ({ message, hint }) {
      console.log(JSON.stringify({ message, hint, keptMib: (kib() - before) / 1024 }));
    }`;
  const command = ["prlimit", `--data=${16 * 1024 * MIB}`, process.execPath, "-e", script];
  const { stdout, stderr } = Bun.spawnSync(command);
  expect(stderr.toString()).toBe("");
  const { message, hint, keptMib } = JSON.parse(stdout.toString());
  expect(message).toContain("4096 x 32 MiB = 131072 MiB");
  expect(hint).toContain("--depth");
  expect(keptMib).toBeLessThan(1024);
});
