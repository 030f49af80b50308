// Options that all disks on files and block devices share.

import type { ParsedArgs } from "citty";

import { UsageError } from "../errors.ts";
import { parseBytes } from "../units.ts";

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
