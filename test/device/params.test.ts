// A geometry as the kernel's parameters.

import { expect, test } from "bun:test";

import { toParams } from "../../src/device/params.ts";
import { UBLK_ATTR, UBLK_PARAM_TYPE } from "../../src/ffi/ublk.ts";
import type { Geometry } from "../../src/target.ts";

const plain: Geometry = {
  sizeBytes: 1024 ** 4,
  logicalBlockBytes: 512,
  physicalBlockBytes: 4096,
  readOnly: false,
  rotational: false,
  volatileCache: false,
  fua: false,
};

test("sizes become shifts and sectors", () => {
  expect(toParams(plain, 512 * 1024)).toEqual({
    types: UBLK_PARAM_TYPE.BASIC,
    basic_attrs: 0,
    basic_logical_bs_shift: 9,
    basic_physical_bs_shift: 12,
    basic_io_min_shift: 9,
    basic_io_opt_shift: 12,
    basic_max_sectors: 1024,
    basic_dev_sectors: 2147483648n,
  });
});

test("no request is larger than the I/O buffer, or than the target takes", () => {
  expect(toParams({ ...plain, maxIoBytes: 65536 }, 524288).basic_max_sectors).toBe(128);
  expect(toParams({ ...plain, maxIoBytes: 1024 ** 3 }, 524288).basic_max_sectors).toBe(1024);
});

test("attributes are set where the target has them", () => {
  const attrs = (part: Partial<Geometry>) => toParams({ ...plain, ...part }, 524288).basic_attrs;
  expect(attrs({ readOnly: true })).toBe(UBLK_ATTR.READ_ONLY);
  expect(attrs({ rotational: true })).toBe(UBLK_ATTR.ROTATIONAL);
  expect(attrs({ volatileCache: true, fua: true })).toBe(UBLK_ATTR.VOLATILE_CACHE | UBLK_ATTR.FUA);
});

test("discard comes with its granularity, and never beyond 32 bits of sectors", () => {
  const params = toParams(
    { ...plain, discard: { maxBytes: 1024 ** 5, granularityBytes: 4096 } },
    524288,
  );
  expect(params.types).toBe(UBLK_PARAM_TYPE.BASIC | UBLK_PARAM_TYPE.DISCARD);
  expect(params.discard_max_discard_sectors).toBe(0xffffffff);
  expect(params.discard_granularity).toBe(4096);
  expect(params.discard_max_discard_segments).toBe(1);
});

test("alignment and segments become masks", () => {
  const params = toParams(
    {
      ...plain,
      dmaAlignmentBytes: 512,
      segments: { maxCount: 32, maxBytes: 65536, boundaryBytes: 4096 },
    },
    524288,
  );
  expect(params).toMatchObject({
    types: UBLK_PARAM_TYPE.BASIC | UBLK_PARAM_TYPE.DMA_ALIGN | UBLK_PARAM_TYPE.SEGMENT,
    dma_alignment: 511,
    seg_boundary_mask: 4095n,
    seg_max_segment_size: 65536,
    seg_max_segments: 32,
  });
});

test("a block size that is no power of two is a bug", () => {
  expect(() => toParams({ ...plain, logicalBlockBytes: 520 }, 524288)).toThrow("power of two");
});
