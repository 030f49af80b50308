// The RAM disk's file: made once, found again, never made anew for a recovery, gone at the end.

import { afterEach, expect, test } from "bun:test";
import { existsSync, rmSync, statfsSync, statSync, truncateSync, writeFileSync } from "node:fs";

import { parseArgs } from "citty";

import { strictWords } from "../../src/cli/strict.ts";
import { UblkError } from "../../src/errors.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import { mem } from "../../src/targets/mem.ts";
import { LocalQueue } from "../support/local-queue.ts";

const MIB = 1024 ** 2;
const identity = `test${process.pid.toString(16).padStart(12, "0")}`;
const file = `/dev/shm/ublk-bun-${identity}`;
const notes: string[] = [];
const context = { deviceId: 7, identity, isNew: true, note: (text: string) => notes.push(text) };
const again = { ...context, isNew: false };

afterEach(() => rmSync(file, { force: true }));

const parse = (...words: string[]) => mem.parse(parseArgs(strictWords(words, mem.args), mem.args));

/** What a person reads, and the exit code. */
async function refusal(action: () => unknown): Promise<string> {
  try {
    await action();
  } catch (error) {
    const { message, hint, exitCode } = error as UblkError;
    expect(error).toBeInstanceOf(UblkError);
    return `${exitCode}: ${message} (${hint})`;
  }
  return "accepted";
}

const openAndClose = async (spec: ReturnType<typeof parse>, how: typeof context) => {
  await using backing = await mem.open(spec, how);
  return backing.geometry;
};

test("--size is needed, and makes sense", async () => {
  expect(await refusal(() => parse())).toBe("2: How large? (such as --size 1GiB)");
  expect(await refusal(() => parse("--size=1000"))).toContain("2: --size 1000 is not a whole");
  expect(await refusal(() => parse("--size=512"))).toContain("2: --size 512 is too small");
  expect(parse("--size", "64M")).toEqual({ sizeBytes: 64 * MIB });
});

test("its file is its owner's alone, sparse, and gone after remove; a second remove is none", async () => {
  const spec = parse("--size=64MiB");
  await openAndClose(spec, context);
  const { mode, size, blocks } = statSync(file);
  expect({ mode: mode & 0o777, size, blocks }).toEqual({ mode: 0o600, size: 64 * MIB, blocks: 0 });
  await mem.remove!(spec, context);
  expect(existsSync(file)).toBe(false);
  await mem.remove!(spec, context);
});

test("a new disk takes no file that is there already", async () => {
  writeFileSync(file, "somebody's");
  expect(await refusal(() => openAndClose(parse("--size=1MiB"), context))).toContain("EEXIST");
  expect(statSync(file).size).toBe(10);
});

test("a recovery finds the memory or says that it is gone, and makes none", async () => {
  const spec = parse("--size=1MiB");
  const lost = await refusal(() => openAndClose(spec, again));
  expect(lost).toContain(`6: The data of device 7 is gone: ${file} is not there any more`);
  expect(lost).toContain("del 7 --force");
  expect(existsSync(file)).toBe(false);
  await openAndClose(spec, context);
  await openAndClose(spec, again);
  truncateSync(file, MIB - 512);
  expect(await refusal(() => openAndClose(spec, again))).toContain("1048064 bytes of 1048576");
  expect(statSync(file).size).toBe(MIB - 512);
});

test("more than the file system ever holds is refused with the numbers; more than it holds now, noted", async () => {
  const { blocks, bavail, bsize } = statfsSync("/dev/shm");
  const tooMuch = Math.ceil((blocks * bsize) / MIB + 1) * MIB;
  const refused = await refusal(() => openAndClose(parse(`--size=${tooMuch}`), context));
  expect(refused).toMatch(/^1: A RAM disk of .* does not fit: \/dev\/shm holds at most /);
  expect(refused).toContain(`mount -o remount,size=${tooMuch}`);
  expect(existsSync(file)).toBe(false);
  notes.length = 0;
  await openAndClose(parse("--size=1MiB"), context);
  expect(notes).toEqual(bavail * bsize > MIB ? [] : [expect.stringContaining("ENOSPC")]);
});

test("discards free memory, and what was there reads as zeroes", async () => {
  const spec = parse("--size=8MiB");
  await using backing = await mem.open(spec, context);
  using local = LocalQueue.of({ target: mem, spec, backing, depth: 1, ioBufBytes: MIB });
  const data = new Uint8Array(MIB).fill(7);
  for (let n = 0; n < 8; n++) {
    const write = { op: UBLK_IO_OP.WRITE, offsetBytes: n * MIB, lengthBytes: MIB };
    expect(local.answer(write, data)).toBe(MIB);
  }
  expect(statSync(file).blocks * 512).toBe(8 * MIB);
  const discard = { op: UBLK_IO_OP.DISCARD, offsetBytes: 2 * MIB, lengthBytes: 4 * MIB };
  expect(local.answer(discard)).toBe(0);
  expect(statSync(file).blocks * 512).toBe(4 * MIB);
  expect(statSync(file).size).toBe(8 * MIB);
  expect(local.read(2 * MIB, MIB)).toEqual(new Uint8Array(MIB));
  expect(local.read(6 * MIB, MIB)).toEqual(data);
});

test("zeroes that must keep their space keep it, although memory cannot be zeroed in place", async () => {
  const spec = parse("--size=8MiB");
  await using backing = await mem.open(spec, context);
  using local = LocalQueue.of({ target: mem, spec, backing, depth: 1, ioBufBytes: MIB });
  const flags = UBLK_IO_F.NOUNMAP;
  const zeroes = { op: UBLK_IO_OP.WRITE_ZEROES, flags, offsetBytes: MIB, lengthBytes: 4 * MIB };
  expect(local.answer(zeroes)).toBe(0);
  expect(statSync(file).blocks * 512).toBe(4 * MIB);
  expect(local.answer({ ...zeroes, flags: 0 })).toBe(0);
  expect(statSync(file).blocks * 512).toBe(0);
});

test("resized, the file has the new size; what was cut off is zeroes when it comes back", async () => {
  const spec = parse("--size=2MiB");
  await openAndClose(spec, context);
  writeFileSync(file, new Uint8Array(2 * MIB).fill(9));
  expect(await mem.resize!(spec, MIB, context)).toEqual({ sizeBytes: MIB });
  // Not before the record says so.
  expect(statSync(file).size).toBe(2 * MIB);
  await mem.trim!({ sizeBytes: MIB }, context);
  expect(statSync(file).size).toBe(MIB);
  // What a server that died in between has left.
  truncateSync(file, 2 * MIB);
  writeFileSync(file, new Uint8Array(2 * MIB).fill(9));
  expect(await mem.resize!({ sizeBytes: MIB }, 4 * MIB, context)).toEqual({ sizeBytes: 4 * MIB });
  const bytes = new Uint8Array(await Bun.file(file).arrayBuffer());
  expect(bytes.length).toBe(4 * MIB);
  expect(bytes.subarray(0, MIB).every((byte) => byte === 9)).toBe(true);
  expect(bytes.subarray(MIB).every((byte) => byte === 0)).toBe(true);
  // What the disk has is not touched, whatever is beyond it.
  writeFileSync(file, new Uint8Array(8 * MIB).fill(9));
  await mem.resize!({ sizeBytes: 4 * MIB }, 4 * MIB, context);
  expect(statSync(file).size).toBe(8 * MIB);
  await mem.trim!({ sizeBytes: 4 * MIB }, context);
  const { blocks, bsize } = statfsSync("/dev/shm");
  const tooMuch = Math.ceil((blocks * bsize) / MIB + 1) * MIB;
  expect(await refusal(() => mem.resize!(spec, tooMuch, context))).toContain("does not fit");
  expect(statSync(file).size).toBe(4 * MIB);
});
