// The stripe target's words, what it refuses, the shape it gives a disk, and the SQEs it makes.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  linkSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { parseArgs } from "citty";

import { strictWords } from "../../src/cli/strict.ts";
import { UblkError } from "../../src/errors.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import { IORING_OP } from "../../src/ffi/uring.ts";
import { KIND } from "../../src/queue/tag.ts";
import { stripe } from "../../src/targets/stripe.ts";
import { FakeQueue } from "../support/fake-queue.ts";
import { LocalQueue } from "../support/local-queue.ts";
import { chooseSeed, seeded } from "../support/seeded.ts";
import { Shadow } from "../support/shadow.ts";

const MIB = 1024 ** 2;
const KIB = 1024;

let folder = "";
const notes: string[] = [];
const context = {
  deviceId: -1,
  identity: "0123456789abcdef",
  isNew: true,
  note: (text: string) => notes.push(text),
};

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ublk-bun-stripe-"));
});

afterAll(() => rmSync(folder, { recursive: true }));

function make(name: string, sizeBytes: number): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return path;
}

const parse = (...words: string[]) =>
  stripe.parse(parseArgs(strictWords(words, stripe.args), stripe.args));

const filesWords = (...files: string[]) => files.flatMap((file) => ["-f", file]);

async function geometryOf(...words: string[]) {
  await using backing = await stripe.open(parse(...words), context);
  return backing.geometry;
}

/** What a person reads, and the exit code. */
async function refusal(...words: string[]): Promise<string> {
  try {
    await geometryOf(...words);
  } catch (error) {
    const { message, hint, exitCode } = error as UblkError;
    expect(error).toBeInstanceOf(UblkError);
    return `${exitCode}: ${message} (${hint})`;
  }
  return "accepted";
}

test("members are a list, in the order they are given, with absolute paths", () => {
  const { files } = parse("-f", "one", "--file=../two", "--file", "/three") as { files: string[] };
  expect(files).toEqual([join(process.cwd(), "one"), join(process.cwd(), "../two"), "/three"]);
});

test("as large as whole chunks of the smallest member allow; the rest is mentioned", async () => {
  const files = [make("s1", 3 * MIB), make("s2", 2 * MIB + 70_000), make("s3", 2 * MIB + 65_536)];
  notes.length = 0;
  const { sizeBytes, optimalIoBytes } = await geometryOf(...filesWords(...files));
  expect(sizeBytes).toBe(3 * (2 * MIB + 65_536));
  // Three chunks are no power of two.
  expect(optimalIoBytes).toBe(65_536);
  expect(notes.join()).toContain("s1: 960 KiB stay unused");
  const four = [...files, make("s4", 4 * MIB)];
  const words = ["--chunk-size", "128KiB", ...filesWords(...four)];
  expect(await geometryOf(...words)).toMatchObject({
    sizeBytes: 8 * MIB,
    optimalIoBytes: 512 * KIB,
    volatileCache: true,
    fua: true,
  });
});

test("what makes no stripe is refused, in words", async () => {
  const one = make("r1", MIB);
  const two = make("r2", MIB);
  const small = make("small", 32 * KIB);
  expect(await refusal("-f", one)).toContain("2: A stripe has 2 to 32 members, not 1");
  expect(await refusal()).toContain("not 0");
  const many = Array.from({ length: 33 }, (_, n) => `m${n}`);
  expect(await refusal(...filesWords(...many))).toContain("not 33");
  expect(await refusal(...filesWords(one, two, one))).toContain(`2: ${one} is given twice`);
  symlinkSync(one, join(folder, "link"));
  linkSync(one, join(folder, "hard"));
  expect(await refusal(...filesWords(one, join(folder, "link")))).toContain("are the same");
  expect(await refusal(...filesWords(one, two, join(folder, "hard")))).toContain("are the same");
  expect(await refusal(...filesWords(one, join(folder, "missing")))).toContain("ENOENT");
  expect(await refusal(...filesWords(one, folder))).toContain("is a folder");
  expect(await refusal(...filesWords(one, small))).toContain("less than one chunk");
  for (const size of ["2048", "3000", "1MiB", "96KiB"]) {
    expect(await refusal("--chunk-size", size, ...filesWords(one, two))).toContain(
      "write a power of two from 4096 to 524288",
    );
  }
  expect(await refusal("--logical-block-size=100", ...filesWords(one, two))).toContain("2: ");
});

test("--read-only and --no-discard are kept to by every member", async () => {
  const words = filesWords(make("d1", MIB), make("d2", MIB));
  const whole = await geometryOf(...words);
  expect(whole.discard).toBeDefined();
  expect(whole.writeZeroes).toBeDefined();
  const { discard, writeZeroes } = await geometryOf(...words, "--no-discard");
  expect({ discard, writeZeroes }).toEqual({ discard: undefined, writeZeroes: undefined });
  expect((await geometryOf(...words, "--read-only")).readOnly).toBe(true);
  expect((await geometryOf(...words, "--logical-block-size=4096")).logicalBlockBytes).toBe(4096);
});

/** The SQEs that a request becomes on `members` members with chunks of 4 KiB. */
function sqesOf(members: number, request: Parameters<FakeQueue["deliver"]>[1]) {
  const files = Array.from({ length: members }, (_, n) => `/m${n}`);
  const spec = parse("--chunk-size=4096", ...filesWords(...files));
  const facts = { kinds: files.map(() => "file"), blockBytes: 512, canDiscard: true };
  const fake = new FakeQueue({ id: 0, depth: 1 });
  const options = { facts: { ...facts, maxIoBytes: MIB }, fds: [], queue: fake.queue };
  fake.prime(stripe.serve(spec, options));
  fake.deliver(0, request);
  const entries = fake.words().map((words) => ({
    operation: words[0]! & 0xff,
    member: words[1]!,
    offset: words[2]!,
    length: words[6]!,
    flags: words[7]!,
    lo: words[8]!,
  }));
  return { fake, entries };
}

test("one SQE for each member that a request touches, vectored where chunks meet again", () => {
  const read = { op: UBLK_IO_OP.READ, offsetBytes: 4096, lengthBytes: 4096 };
  expect(sqesOf(3, read).entries).toMatchObject([
    { operation: IORING_OP.READ, member: 1, offset: 0, length: 4096 },
  ]);
  const write = { op: UBLK_IO_OP.WRITE, offsetBytes: 512, lengthBytes: 4 * 4096 };
  expect(sqesOf(3, { ...write, flags: UBLK_IO_F.FUA }).entries).toMatchObject([
    { operation: IORING_OP.WRITEV, member: 0, offset: 512, length: 2, flags: 2 },
    { operation: IORING_OP.WRITEV, member: 1, offset: 0, length: 2, flags: 2 },
    { operation: IORING_OP.WRITE, member: 2, offset: 0, length: 4096, flags: 2 },
  ]);
});

test("a FLUSH goes to all members and ends with the last; the first error counts", () => {
  const flush = { op: UBLK_IO_OP.FLUSH, offsetBytes: 2 ** 50, lengthBytes: 0 };
  const { fake, entries } = sqesOf(4, flush);
  expect(entries.map(({ operation, member }) => [operation, member])).toEqual(
    [0, 1, 2, 3].map((member) => [IORING_OP.FSYNC, member]),
  );
  const results = [0, -28, -5, 0];
  for (const [n, { lo }] of entries.entries()) {
    expect(fake.submitted()).toEqual([]);
    fake.queue.onCompletion(lo, KIND.target, results[n]!, 0);
  }
  expect(fake.submitted()).toMatchObject([{ operation: "commit", tag: 0, result: -28 }]);
});

test.each([
  [2, "4KiB"],
  [3, "4KiB"],
  [5, "16KiB"],
  [32, "4KiB"],
  [4, "512KiB"],
])("%d members with chunks of %s hold what is written, in the layout's place", async (n, chunk) => {
  const random = seeded(chooseSeed());
  const files = Array.from({ length: n }, (_, i) => make(`data${i}`, n > 5 ? MIB / 4 : 2 * MIB));
  const spec = parse("--chunk-size", chunk, ...filesWords(...files));
  await using backing = await stripe.open(spec, context);
  const common = { depth: 8, ioBufBytes: MIB };
  using local = LocalQueue.of({ target: stripe, spec, backing, ...common });
  const shadow = new Shadow({ local, geometry: backing.geometry, random, ...common });
  for (let round = 0; round < 10; round++) shadow.round();
  local.answer({ op: UBLK_IO_OP.FLUSH, offsetBytes: 0, lengthBytes: 0 });
  const { chunkBytes } = spec as unknown as { chunkBytes: number };
  const found = new Uint8Array(backing.geometry.sizeBytes);
  for (const [member, file] of files.entries()) {
    const bytes = readFileSync(file);
    for (let at = 0; at < bytes.length; at += chunkBytes) {
      const row = at / chunkBytes;
      found.set(bytes.subarray(at, at + chunkBytes), (row * n + member) * chunkBytes);
    }
  }
  expect(Buffer.compare(found, shadow.bytes)).toBe(0);
});
