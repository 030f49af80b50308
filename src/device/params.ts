// A target's geometry as the kernel's struct ublk_params.

import type { Params } from "../control/commands/get-params.ts";
import { assert } from "../errors.ts";
import { UBLK_ATTR, UBLK_PARAM_TYPE } from "../ffi/ublk.ts";
import type { Geometry } from "../target.ts";

const SECTOR_BYTES = 512;
const SECTORS_32_BITS_MAX = 0xffffffff;

/** log2 of a power of two. */
function shift(bytes: number, what: string): number {
  const bits = Math.log2(bytes);
  assert(Number.isInteger(bits), `${what} ${bytes} is a power of two`);
  return bits;
}

const sectors32 = (bytes: number) =>
  Math.min(Math.floor(bytes / SECTOR_BYTES), SECTORS_32_BITS_MAX);

/** `ioBufBytes` is the device's max_io_buf_bytes: no request may be larger. */
export function toParams(geometry: Geometry, ioBufBytes: number): Params {
  const { logicalBlockBytes, physicalBlockBytes } = geometry;
  const maxIoBytes = Math.min(geometry.maxIoBytes ?? ioBufBytes, ioBufBytes);
  const attributes =
    (geometry.readOnly ? UBLK_ATTR.READ_ONLY : 0) |
    (geometry.rotational ? UBLK_ATTR.ROTATIONAL : 0) |
    (geometry.volatileCache ? UBLK_ATTR.VOLATILE_CACHE : 0) |
    (geometry.fua ? UBLK_ATTR.FUA : 0);
  const params: Params = {
    basic_attrs: attributes,
    basic_logical_bs_shift: shift(logicalBlockBytes, "logicalBlockBytes"),
    basic_physical_bs_shift: shift(physicalBlockBytes, "physicalBlockBytes"),
    basic_io_min_shift: shift(geometry.minIoBytes ?? logicalBlockBytes, "minIoBytes"),
    basic_io_opt_shift: shift(geometry.optimalIoBytes ?? physicalBlockBytes, "optimalIoBytes"),
    basic_max_sectors: sectors32(maxIoBytes),
    basic_dev_sectors: BigInt(geometry.sizeBytes / SECTOR_BYTES),
  };
  const parts = [discardParams(geometry), dmaParams(geometry), segmentParams(geometry)];
  const types = parts.reduce((bits, part) => bits | (part.types ?? 0), UBLK_PARAM_TYPE.BASIC);
  return Object.assign(params, ...parts, { types });
}

function discardParams({ discard, writeZeroes, logicalBlockBytes }: Geometry): Params {
  if (!discard && !writeZeroes) return {};
  return {
    types: UBLK_PARAM_TYPE.DISCARD,
    discard_granularity: discard?.granularityBytes ?? logicalBlockBytes,
    discard_max_discard_sectors: sectors32(discard?.maxBytes ?? 0),
    discard_max_write_zeroes_sectors: sectors32(writeZeroes?.maxBytes ?? 0),
    discard_max_discard_segments: discard ? 1 : 0,
  };
}

/** The kernel wants masks: alignment and boundary less one. Linux 6.12 ignores both blocks. */
function dmaParams({ dmaAlignmentBytes }: Geometry): Params {
  if (dmaAlignmentBytes === undefined) return {};
  shift(dmaAlignmentBytes, "dmaAlignmentBytes");
  return { types: UBLK_PARAM_TYPE.DMA_ALIGN, dma_alignment: dmaAlignmentBytes - 1 };
}

function segmentParams({ segments }: Geometry): Params {
  if (!segments) return {};
  shift(segments.boundaryBytes, "boundaryBytes");
  return {
    types: UBLK_PARAM_TYPE.SEGMENT,
    seg_boundary_mask: BigInt(segments.boundaryBytes) - 1n,
    seg_max_segment_size: segments.maxBytes,
    seg_max_segments: segments.maxCount,
  };
}
