// The history check fails for servers that acknowledge what they have not done, and for no other: each is
// run without a driver, dies between two requests, and another one of its kind takes over.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { UBLK_IO_OP } from "../../../src/ffi/ublk.ts";
import type { Spec, Target } from "../../../src/target.ts";
import { loop } from "../../../src/targets/loop.ts";
import { nullTarget } from "../../../src/targets/null.ts";
import { LocalQueue } from "../local-queue.ts";
import { chooseSeed, seeded } from "../seeded.ts";
import { sparseFile } from "../sparse-file.ts";
import { type Read, violations, type Write } from "./history.ts";
import { hasty } from "./program/liars.ts";
import { BLOCK_BYTES, readStamp, writeStamp } from "./stamp.ts";

const BLOCKS = 16;
const WRITES_PER_LIFE = 50;
const LIVES = 4;

const folder = mkdtempSync(join(tmpdir(), "ublk-liars-"));
afterAll(() => rmSync(folder, { recursive: true }));

const random = seeded(chooseSeed());
let clockNs = 0;

/** One server's life: writes, each acknowledged, and every block read at its beginning. */
async function live(target: Target, spec: Spec, writes: Write[], reads: Read[]): Promise<void> {
  const isFirst = writes.length === 0;
  const context = { deviceId: 0, identity: "0", isNew: isFirst, note: () => {} };
  await using backing = await target.open(spec, context);
  using local = LocalQueue.of({ target, spec, backing, depth: 4, ioBufBytes: BLOCK_BYTES });
  const data = local.data(0);
  const words = new Uint32Array(data.buffer, data.byteOffset, BLOCK_BYTES / 4);
  const readAll = () => {
    for (let block = 0; block < BLOCKS; block++) {
      const issuedNs = clockNs++;
      // Null leaves the memory as it is.
      words.fill(0);
      const offsetBytes = block * BLOCK_BYTES;
      local.answer({ op: UBLK_IO_OP.READ, offsetBytes, lengthBytes: BLOCK_BYTES });
      reads.push({ block, found: readStamp(words), issuedNs, answeredNs: clockNs++ });
    }
  };
  readAll();
  for (let n = 0; n < WRITES_PER_LIFE; n++) {
    const [block, sequence] = [Math.floor(random() * BLOCKS), writes.length + 1];
    writeStamp(words, { block, writer: 0, sequence });
    const issuedNs = clockNs++;
    const offsetBytes = block * BLOCK_BYTES;
    local.answer({ op: UBLK_IO_OP.WRITE, offsetBytes, lengthBytes: BLOCK_BYTES });
    writes.push({ block, writer: 0, sequence, issuedNs, ackedNs: clockNs++ });
  }
  // While its first server lives a hasty disk is right; what is lost later stays lost.
  if (isFirst && target !== nullTarget) {
    const before = reads.length;
    readAll();
    expect(violations({ writes, reads: reads.slice(before) })).toEqual([]);
  }
}

async function complaints(target: Target, spec: Spec): Promise<string[]> {
  const [writes, reads]: [Write[], Read[]] = [[], []];
  for (let life = 0; life <= LIVES; life++) await live(target, spec, writes, reads);
  return violations({ writes, reads });
}

const file = (name: string) => sparseFile(join(folder, name), BLOCKS * BLOCK_BYTES);

test("loop, which writes before it commits, passes", async () => {
  const args = { file: file("loop"), offset: "0", "buffered-io": true };
  expect(await complaints(loop, loop.parse(args as never))).toEqual([]);
});

test("a server that commits before it writes fails, though all its reads were right", async () => {
  const found = await complaints(hasty, { file: file("hasty") });
  expect(found.length).toBeGreaterThan(0);
  expect(found[0]).toMatch(/acknowledged/);
});

test("null, which keeps nothing, fails", async () => {
  const found = await complaints(nullTarget, { sizeBytes: BLOCKS * BLOCK_BYTES });
  expect(found[0]).toMatch(/is empty, and write \d+ of writer 0 was acknowledged/);
});
