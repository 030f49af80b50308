// What a target's disk has is advertised, and nothing else.

import { expect, test } from "bun:test";

import type { Disk } from "ublk-bun";

import { filterProblem } from "../../src/filters/over.ts";
import { diskProblem, geometryOf, ringDiskProblem, ringGeometryOf } from "../../src/script/disk.ts";

const read = () => {};
const sizeBytes = 8192;

test("a disk that can only read is read-only, and has no cache to flush", () => {
  expect(geometryOf({ sizeBytes, read })).toEqual({
    sizeBytes,
    logicalBlockBytes: 512,
    physicalBlockBytes: 4096,
    readOnly: true,
    rotational: false,
    volatileCache: false,
    fua: false,
  });
  const flush = geometryOf({ sizeBytes, read, flush() {}, discard() {}, writeZeroes() {} });
  expect(flush.volatileCache).toBe(false);
  expect(flush.discard).toBeUndefined();
  expect(flush.writeZeroes).toBeUndefined();
});

test("FUA is advertised where there is a flush and write asks for it", () => {
  const flush = () => {};
  const asks = (_offset: number, _from: Uint8Array, _options: { readonly fua: boolean }) => {};
  const asksNot = (_offset: number, _from: Uint8Array) => {};
  const fua = (disk: Partial<Disk>) => geometryOf({ sizeBytes, read, ...disk }).fua;
  expect(fua({ write: asks, flush })).toBe(true);
  expect(fua({ write: asksNot, flush })).toBe(false);
  expect(fua({ write: asksNot, flush, fua: true })).toBe(true);
  expect(fua({ write: asks })).toBe(false);
  expect(geometryOf({ sizeBytes, read, write: asks }).volatileCache).toBe(false);
  expect(geometryOf({ sizeBytes, read, write: asksNot, flush }).volatileCache).toBe(true);
});

test("discard and writeZeroes with their limits", () => {
  const disk = {
    sizeBytes,
    read,
    write() {},
    discard() {},
    writeZeroes() {},
    maxDiscardBytes: 4096,
  };
  expect(geometryOf(disk)).toMatchObject({
    discard: { maxBytes: 4096, granularityBytes: 512 },
    writeZeroes: { maxBytes: 1024 ** 3 },
  });
});

test("what is no disk is refused in words", () => {
  const problem = (disk: object) => diskProblem({ sizeBytes, read, ...disk });
  expect(problem({})).toBeUndefined();
  expect(diskProblem(undefined)).toBe("open returned no disk");
  expect(diskProblem({ sizeBytes })).toContain("without a read function");
  expect(problem({ flush: 4 })).toContain("whose flush is not a function");
  expect(problem({ sizeBytes: 8191 })).toContain("sizeBytes is 8191: a multiple of 512");
  expect(problem({ sizeBytes: 512 })).toContain("from 4096 to less than 8 PiB");
  expect(problem({ sizeBytes: 8192n })).toContain(
    "sizeBytes is 8192n (of type bigint): a multiple",
  );
  expect(problem({ logicalBlockBytes: "512" })).toContain('is "512" (of type string): a power');
  expect(problem({ readOnly: "yes" })).toBe('readOnly is "yes" (of type string): true or false');
  const generator = (async function* () {})();
  for (const none of [generator, (function* () {})(), []]) {
    const said = "open returned a list or a generator, which is no disk";
    expect(diskProblem(none)).toBe(said);
    expect(ringDiskProblem(none)).toBe(said);
    expect(filterProblem(none)).toBe(said);
  }
  expect(problem({ sizeBytes: undefined })).toContain("sizeBytes is undefined");
  expect(problem({ logicalBlockBytes: 1000 })).toContain("logicalBlockBytes is 1000");
  expect(problem({ physicalBlockBytes: 256 })).toContain("physicalBlockBytes is 256");
  expect(problem({ maxIoBytes: 512 })).toContain("maxIoBytes is 512");
});

test("a ring target's disk", () => {
  expect(ringDiskProblem({ sizeBytes, fds: [3] })).toBeUndefined();
  expect(ringDiskProblem({ sizeBytes })).toContain("fds is not a list");
  const geometry = ringGeometryOf({ sizeBytes, fds: [], volatileCache: true, fua: true });
  expect(geometry).toMatchObject({ volatileCache: true, fua: true, readOnly: false });
});
