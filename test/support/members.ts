// Files that a stripe lies on, and the disk as they have it.

import { expect } from "bun:test";
import { readFileSync, unlinkSync } from "node:fs";

import { runOk } from "./program.ts";
import type { Scratch } from "./scratch.ts";

/** Empty members, gone with the scope. */
export function membersIn(scratch: Scratch, count: number, sizeBytes: number) {
  const files = Array.from({ length: count }, (_, n) => scratch.file(`member${n}`, sizeBytes));
  return {
    files,
    words: files.flatMap((file) => ["-f", file]),
    [Symbol.dispose]: () => files.forEach((file) => unlinkSync(file)),
  };
}

/** The disk as its members' files have it, put together here, where the server has no part in it. */
function assemble(files: readonly string[], chunkBytes: number): Buffer {
  const parts = files.map((file) => readFileSync(file));
  const rows = Math.floor(Math.min(...parts.map(({ length }) => length)) / chunkBytes);
  return Buffer.concat(
    Array.from({ length: rows }, (_, row) =>
      parts.map((bytes) => bytes.subarray(row * chunkBytes, (row + 1) * chunkBytes)),
    ).flat(),
  );
}

/** The disk at `path` holds, chunk by chunk, what its members hold. */
export async function expectLayout(path: string, files: readonly string[], chunkBytes: number) {
  await runOk("blockdev", "--flushbufs", path);
  expect(Buffer.compare(readFileSync(path), assemble(files, chunkBytes))).toBe(0);
}
