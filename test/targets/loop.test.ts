// The loop target's words, what it refuses, and the shape it gives a disk.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";

import { parseArgs } from "citty";

import { strictWords } from "../../src/cli/strict.ts";
import { UblkError } from "../../src/errors.ts";
import type { BackingFile } from "../../src/targets/backing.ts";
import { blocksOf, type FileOptions } from "../../src/targets/file-options.ts";
import { loop } from "../../src/targets/loop.ts";

const MIB = 1024 ** 2;

let folder = "";
let file = "";
const notes: string[] = [];
const context = {
  deviceId: -1,
  identity: "0123456789abcdef",
  isNew: true,
  note: (text: string) => notes.push(text),
};

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ublk-bun-loop-"));
  file = make("disk", 4 * MIB);
});

afterAll(() => rmSync(folder, { recursive: true }));

function make(name: string, sizeBytes: number): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return path;
}

const parse = (...words: string[]) =>
  loop.parse(parseArgs(strictWords(words, loop.args), loop.args));

async function geometryOf(...words: string[]) {
  await using backing = await loop.open(parse(...words), context);
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

test("paths are made absolute, and a link keeps its name", () => {
  const link = join(folder, "link");
  symlinkSync(file, link);
  expect(parse("-f", relative(process.cwd(), link))).toMatchObject({ file: link });
  expect(loop.files?.(parse("-f", link))).toEqual([link]);
});

test("the words become a spec that says everything", () => {
  const words = ["--offset=1MiB", "--size=2MiB", "--read-only", "--no-discard", "--buffered-io"];
  expect(parse("-f", file, ...words, "--logical-block-size=4k")).toEqual({
    file,
    offsetBytes: MIB,
    sizeBytes: 2 * MIB,
    bufferedIo: true,
    readOnly: true,
    discard: false,
    logicalBlockBytes: 4096,
    physicalBlockBytes: 0,
  });
});

test("words that make no sense are usage errors", async () => {
  expect(await refusal()).toBe("2: Which file? (name it: --file FILE)");
  expect(await refusal("-f", file, "--offset=100")).toMatch(/^2: --offset 100 is not a whole/);
  expect(await refusal("-f", file, "--offset=512", "--logical-block-size=4096")).toMatch(/^2:/);
  expect(await refusal("-f", file, "--size=1000")).toMatch(/^2: --size 1000 is not a whole/);
  expect(await refusal("-f", file, "--logical-block-size=1000")).toMatch(/^2:.*power of two/);
  expect(await refusal("-f", file, "--logical-block-size=8192")).toMatch(/^2:.*512 to 4096/);
  const blocks = ["--logical-block-size=4096", "--physical-block-size=512"];
  expect(await refusal("-f", file, ...blocks)).toMatch(/^2:.*from 4096/);
  expect(await refusal("-f", file, "--offset=4MiB")).toMatch(/^2: --offset 4194304 is beyond/);
});

test("what cannot be a backing is named, with what to do", async () => {
  const missing = join(folder, "missing");
  expect(await refusal("-f", missing)).toBe(
    `1: Cannot open ${missing}: ENOENT (no such file) (make it, such as: truncate -s 10G ${missing})`,
  );
  expect(await refusal("-f", folder)).toMatch(/^1: .* is a folder \(name a regular file/);
  expect(await refusal("-f", "/dev/null")).toMatch(/^1: \/dev\/null is a character device/);
  const pipe = join(folder, "pipe");
  Bun.spawnSync(["mkfifo", pipe]);
  expect(await refusal("-f", pipe)).toMatch(/^1: .* is a named pipe/);
  expect(await refusal("-f", make("empty", 0))).toMatch(/^1: .* is empty \(.*truncate -s 1G/);
  mkdirSync(join(folder, "below"));
  expect(await refusal("-f", `${file}/x`)).toMatch(/^1: Cannot open .*ENOTDIR/);
});

test("three sectors less than a whole block are no disk", async () => {
  const tiny = make("tiny", 4096 - 3 * 512);
  expect(await refusal("-f", tiny)).toMatch(/^1: .* is too small for a disk: 2560 bytes/);
  const odd = make("odd", MIB - 3 * 512);
  expect(await refusal("-f", odd, "--logical-block-size=4096")).toMatch(
    /^1: .* has 1047040 bytes .* 4096-byte blocks \(use --size 1044480, or grow it: truncate -s 1048576/,
  );
  expect((await geometryOf("-f", odd)).sizeBytes).toBe(MIB - 3 * 512);
  expect(await refusal("-f", make("bytes", MIB - 100))).toMatch(/^1: .*not a whole number of 512/);
});

test("a disk larger than its file is refused, with the command that grows the file", async () => {
  const hint = new RegExp(`too few for a disk of .*truncate -s ${9 * MIB} `);
  expect(await refusal("-f", file, "--size=8MiB", "--offset=1MiB")).toMatch(hint);
});

test("a file that nobody may write is refused unless read-only", async () => {
  const locked = make("locked", MIB);
  Bun.spawnSync(["chmod", "444", locked]);
  expect(await refusal("-f", locked)).toMatch(/^1: .* is read-only.*add --read-only/);
  expect(await geometryOf("-f", locked, "--read-only")).toMatchObject({ readOnly: true });
});

/** A backing as one would be with these blocks. */
const backingOf = (logicalBlockBytes: number, isDevice: boolean) =>
  ({ path: "/the/backing", logicalBlockBytes, physicalBlockBytes: 8192, isDevice }) as BackingFile;

test("blocks are those of the strictest backing, or larger; smaller ones are refused", () => {
  const blocks = (words: string[], ...backings: BackingFile[]) => {
    const { logicalBlockBytes, physicalBlockBytes } = blocksOf(
      parse("-f", file, ...words) as unknown as FileOptions,
      backings,
    );
    return [logicalBlockBytes, physicalBlockBytes];
  };
  const [small, large] = [backingOf(512, false), backingOf(4096, true)];
  expect(blocks([], small)).toEqual([512, 8192]);
  expect(blocks([], small, large)).toEqual([4096, 8192]);
  expect(blocks(["--physical-block-size=4096"], large)).toEqual([4096, 4096]);
  expect(() => blocks(["--logical-block-size=512"], large, small)).toThrow(
    "--logical-block-size 512 is smaller than the blocks of /the/backing",
  );
  // The driver would refuse the device when it is there already.
  expect(() => blocks(["--physical-block-size=512"], large)).toThrow(
    "--physical-block-size 512 is smaller than the disk's blocks of 4096",
  );
});

test("the geometry is the backing's, or what was asked for", async () => {
  const plain = await geometryOf("-f", file);
  expect(plain).toMatchObject({
    sizeBytes: 4 * MIB,
    readOnly: false,
    volatileCache: true,
    fua: true,
    discard: { granularityBytes: 4096 },
  });
  const words = ["--offset=1MiB", "--size=1MiB", "--no-discard", "--logical-block-size=4096"];
  const chosen = await geometryOf("-f", file, ...words, "--physical-block-size=16k");
  expect(chosen).toMatchObject({
    sizeBytes: MIB,
    logicalBlockBytes: 4096,
    physicalBlockBytes: 16384,
  });
  expect(chosen.discard).toBeUndefined();
  expect(chosen.writeZeroes).toBeUndefined();
  const { dmaAlignmentBytes } = await geometryOf("-f", file, "--buffered-io");
  expect(dmaAlignmentBytes).toBeUndefined();
  expect(notes).toEqual([]);
});

test("resize takes what the file holds, and says how to grow it", async () => {
  const spec = parse("-f", file, "--offset=1MiB");
  expect(await loop.resize?.(spec, 3 * MIB, context)).toMatchObject({ sizeBytes: 3 * MIB });
  const larger = Promise.resolve(loop.resize?.(spec, 4 * MIB, context));
  expect(larger).rejects.toThrow(`${file} has ${4 * MIB} bytes (4 MiB): too few for a disk`);
});
