// Options that all disks on files and block devices share.

import type { ParsedArgs } from "citty";

import { UsageError } from "../errors.ts";
import type { Geometry } from "../target.ts";
import { parseBytes } from "../units.ts";
import type { BackingFile } from "./backing.ts";

const SECTOR_BYTES = 512;
const LOGICAL_BYTES_MAX = 4096;
const PHYSICAL_BYTES_MAX = 1024 ** 2;

export const fileArgs = {
  "buffered-io": {
    type: "boolean",
    description: "through the page cache, without O_DIRECT",
  },
  "read-only": { type: "boolean", description: "nothing can be written" },
  discard: {
    type: "boolean",
    description: "discards free space of the file; --no-discard: they are refused",
    default: true,
  },
  "logical-block-size": {
    type: "string",
    description: "smallest request, 512 to 4096; default: what the backing needs",
    valueHint: "BYTES",
  },
  "physical-block-size": {
    type: "string",
    description: "what is written without reading first; default: the backing's",
    valueHint: "BYTES",
  },
} as const;

export type FileOptions = {
  readonly bufferedIo: boolean;
  readonly readOnly: boolean;
  readonly discard: boolean;
  /** 0: what the backing has. */
  readonly logicalBlockBytes: number;
  readonly physicalBlockBytes: number;
};

/** Throws UsageError. */
export function parseFileOptions(args: ParsedArgs<typeof fileArgs>): FileOptions {
  const logicalBlockBytes = parseBlock(args["logical-block-size"], "--logical-block-size", {
    min: SECTOR_BYTES,
    max: LOGICAL_BYTES_MAX,
  });
  return {
    bufferedIo: args["buffered-io"] === true,
    readOnly: args["read-only"] === true,
    discard: args.discard,
    logicalBlockBytes,
    physicalBlockBytes: parseBlock(args["physical-block-size"], "--physical-block-size", {
      min: logicalBlockBytes || SECTOR_BYTES,
      max: PHYSICAL_BYTES_MAX,
    }),
  };
}

/** A disk's blocks: as wished, or those of the strictest backing. Throws UsageError where they do not fit. */
export function blocksOf(
  { logicalBlockBytes: wished, physicalBlockBytes: wishedPhysical }: FileOptions,
  backings: readonly BackingFile[],
): Pick<Geometry, "logicalBlockBytes" | "physicalBlockBytes"> {
  const strictest = backings.reduce((most, backing) =>
    backing.logicalBlockBytes > most.logicalBlockBytes ? backing : most,
  );
  const leastBytes = strictest.logicalBlockBytes;
  const logicalBlockBytes = wished || leastBytes;
  if (logicalBlockBytes < leastBytes) {
    throw new UsageError(
      `--logical-block-size ${wished} is smaller than the blocks of ${strictest.path}`,
      `use ${leastBytes}${strictest.isDevice ? "" : ", or add --buffered-io"}`,
    );
  }
  const physicals = backings.map(({ physicalBlockBytes }) => physicalBlockBytes);
  const physicalBlockBytes = wishedPhysical || Math.max(logicalBlockBytes, ...physicals);
  if (physicalBlockBytes >= logicalBlockBytes) return { logicalBlockBytes, physicalBlockBytes };
  throw new UsageError(
    `--physical-block-size ${wishedPhysical} is smaller than the disk's blocks of ${logicalBlockBytes}`,
    `use ${logicalBlockBytes} or more`,
  );
}

/** A power of two; 0 where nothing is said. */
function parseBlock(
  text: string | undefined,
  option: string,
  { min, max }: { readonly min: number; readonly max: number },
): number {
  if (text === undefined) return 0;
  const bytes = parseBytes(text, option);
  if (bytes >= min && bytes <= max && Number.isInteger(Math.log2(bytes))) return bytes;
  throw new UsageError(
    `${option} ${text} is not possible`,
    `write a power of two from ${min} to ${max}`,
  );
}
