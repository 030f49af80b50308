// struct ublk_params as people and programs read it: bytes instead of shifts and sectors, blocks by name.

import type { getParams } from "../control/commands/index.ts";
import { LBMD_PI_CAP, LBMD_PI_CSUM, UBLK_ATTR, UBLK_PARAM_TYPE } from "../ffi/ublk.ts";

/** What the kernel stores, every field. */
export type KernelParams = ReturnType<NonNullable<(typeof getParams)["decode"]>>;

const SECTOR_BYTES = 512;

/** Names of the bits that are set. */
function bitNames(bits: number, table: Readonly<Record<string, number>>): string[] {
  return Object.entries(table).flatMap(([name, bit]) => ((bits & bit) === 0 ? [] : [name]));
}

const mask = (bits: bigint | number) => `0x${bits.toString(16)}`;

/** A block that was never set is null. Bytes are exact up to 2^53. */
export function reportParams(params: KernelParams) {
  const has = (type: number) => (params.types & type) !== 0;
  return {
    basic: {
      attributes: bitNames(params.basic_attrs, UBLK_ATTR),
      logicalBlockBytes: 2 ** params.basic_logical_bs_shift,
      physicalBlockBytes: 2 ** params.basic_physical_bs_shift,
      minIoBytes: 2 ** params.basic_io_min_shift,
      optimalIoBytes: 2 ** params.basic_io_opt_shift,
      maxIoBytes: params.basic_max_sectors * SECTOR_BYTES,
      chunkBytes: params.basic_chunk_sectors * SECTOR_BYTES,
      sizeBytes: Number(params.basic_dev_sectors) * SECTOR_BYTES,
      virtualBoundaryMask: mask(params.basic_virt_boundary_mask),
    },
    discard: has(UBLK_PARAM_TYPE.DISCARD)
      ? {
          alignmentBytes: params.discard_alignment,
          granularityBytes: params.discard_granularity,
          maxDiscardBytes: params.discard_max_discard_sectors * SECTOR_BYTES,
          maxWriteZeroesBytes: params.discard_max_write_zeroes_sectors * SECTOR_BYTES,
          maxDiscardSegments: params.discard_max_discard_segments,
        }
      : null,
    zoned: has(UBLK_PARAM_TYPE.ZONED)
      ? {
          maxOpenZones: params.zoned_max_open_zones,
          maxActiveZones: params.zoned_max_active_zones,
          maxZoneAppendBytes: params.zoned_max_zone_append_sectors * SECTOR_BYTES,
        }
      : null,
    dmaAlignmentBytes: has(UBLK_PARAM_TYPE.DMA_ALIGN) ? params.dma_alignment + 1 : null,
    segments: has(UBLK_PARAM_TYPE.SEGMENT)
      ? {
          boundaryMask: mask(params.seg_boundary_mask),
          maxBytes: params.seg_max_segment_size,
          maxCount: params.seg_max_segments,
        }
      : null,
    integrity: has(UBLK_PARAM_TYPE.INTEGRITY)
      ? {
          capabilities: bitNames(params.integrity_flags, LBMD_PI_CAP),
          maxSegments: params.integrity_max_integrity_segments,
          intervalBytes: 2 ** params.integrity_interval_exp,
          metadataBytes: params.integrity_metadata_size,
          offsetBytes: params.integrity_pi_offset,
          checksum: checksumName(params.integrity_csum_type),
          tagBytes: params.integrity_tag_size,
        }
      : null,
  };
}

export type ParamReport = ReturnType<typeof reportParams>;

function checksumName(type: number): string {
  const known = Object.entries(LBMD_PI_CSUM).find(([, value]) => value === type);
  return known?.[0] ?? String(type);
}
