// loop: a disk in a regular file or on a block device; every request is I/O in the queue's own ring.

import type { ParsedArgs } from "citty";

import { resolve } from "../builtin.ts";
import { UblkError, UsageError } from "../errors.ts";
import { type Backing, defineTarget, type Geometry, type OpenContext } from "../target.ts";
import { formatBytes, parseBytes, parseDiskSize } from "../units.ts";
import { type BackingFile, backingSizeBytes, checkWholeBlocks, openBacking } from "./backing.ts";
import { blocksOf, fileArgs, type FileOptions, parseFileOptions } from "./file-options.ts";
import { LoopQueue } from "./loop-queue.ts";

type LoopSpec = FileOptions & {
  readonly file: string;
  /** Where in the file the disk begins. */
  readonly offsetBytes: number;
  /** 0: to the end of the file. */
  readonly sizeBytes: number;
};

const SECTOR_BYTES = 512;

const loopArgs = {
  file: {
    type: "string",
    alias: "f",
    description: "regular file or block device that the disk lies on",
    valueHint: "FILE",
  },
  offset: {
    type: "string",
    description: "where in the file the disk begins; whole blocks",
    valueHint: "BYTES",
    default: "0",
  },
  size: {
    type: "string",
    description: "size of the disk; default: to the end of the file",
    valueHint: "SIZE",
  },
  ...fileArgs,
} as const;

export const loop = defineTarget({
  name: "loop",
  summary: "a disk in a file or on a block device",
  data: "transfer",
  args: loopArgs,
  parse: parseLoop,
  open: async (spec: LoopSpec, context) => openLoop(spec, context),
  serve: ({ file, readOnly, offsetBytes }, { queue, facts, fds }) =>
    new LoopQueue(queue, {
      file,
      fd: fds[0]!,
      offsetBytes,
      readOnly,
      isDevice: facts["isDevice"] === true,
      mayUnmap: facts["mayUnmap"] === true,
      canDiscard: facts["canDiscard"] === true,
      blockBytes: Number(facts["blockBytes"]),
    }),
  files: ({ file }) => [file],
  resize: async (spec, sizeBytes) => {
    const { file, offsetBytes } = spec;
    const fileBytes = backingSizeBytes(file);
    if (sizeBytes + offsetBytes > fileBytes) throw tooSmall(spec, sizeBytes, fileBytes);
    return { ...spec, sizeBytes };
  },
});

function parseLoop(args: ParsedArgs<typeof loopArgs>): LoopSpec {
  const { file, size } = args;
  if (file === undefined) throw new UsageError("Which file?", "name it: --file FILE");
  const options = parseFileOptions(args);
  const blockBytes = options.logicalBlockBytes || SECTOR_BYTES;
  const offsetBytes = parseBytes(args.offset, "--offset");
  checkOffset(offsetBytes, blockBytes);
  return {
    file: resolve(file),
    offsetBytes,
    sizeBytes: size === undefined ? 0 : parseDiskSize(size, blockBytes),
    ...options,
  };
}

function checkOffset(offsetBytes: number, blockBytes: number): void {
  if (offsetBytes % blockBytes === 0) return;
  throw new UsageError(
    `--offset ${offsetBytes} is not a whole number of ${blockBytes}-byte blocks`,
    `the nearest below is ${offsetBytes - (offsetBytes % blockBytes)}`,
  );
}

function openLoop(spec: LoopSpec, context: OpenContext): Backing {
  const { file, readOnly, bufferedIo } = spec;
  const backing = openBacking(file, { readOnly, bufferedIo, context });
  try {
    const geometry = geometryOf(spec, backing);
    return {
      geometry,
      fds: [backing.fd],
      facts: {
        isDevice: backing.isDevice,
        blockBytes: geometry.logicalBlockBytes,
        mayUnmap: spec.discard,
        canDiscard: geometry.discard !== undefined,
      },
      [Symbol.asyncDispose]: async () => backing[Symbol.dispose](),
    };
  } catch (error) {
    backing[Symbol.dispose]();
    throw error;
  }
}

/** The disk's shape. Throws where spec and backing do not fit. */
function geometryOf(spec: LoopSpec, backing: BackingFile): Geometry {
  const { logicalBlockBytes, physicalBlockBytes } = blocksOf(spec, [backing]);
  checkOffset(spec.offsetBytes, logicalBlockBytes);
  const { dmaAlignmentBytes, discard, writeZeroes } = backing;
  const mayDiscard = spec.discard && !spec.readOnly && discard !== undefined;
  // In a file only punching is known to work, and without discards nothing may be punched.
  const mayZero = !spec.readOnly && writeZeroes && (spec.discard || backing.isDevice);
  return {
    sizeBytes: diskSizeBytes(spec, backing, logicalBlockBytes),
    logicalBlockBytes,
    physicalBlockBytes,
    readOnly: spec.readOnly,
    rotational: backing.rotational,
    volatileCache: true,
    fua: true,
    ...(dmaAlignmentBytes === undefined ? {} : { dmaAlignmentBytes }),
    ...(mayDiscard ? { discard: atLeast(discard, logicalBlockBytes) } : {}),
    ...(mayZero ? { writeZeroes } : {}),
  };
}

const atLeast = (discard: NonNullable<Geometry["discard"]>, blockBytes: number) => ({
  ...discard,
  granularityBytes: Math.max(discard.granularityBytes, blockBytes),
});

function diskSizeBytes(spec: LoopSpec, backing: BackingFile, blockBytes: number): number {
  const { file, offsetBytes } = spec;
  const restBytes = backing.sizeBytes - offsetBytes;
  if (restBytes <= 0) {
    const where = `beyond the end of ${file}, which has ${backing.sizeBytes} bytes`;
    throw new UsageError(`--offset ${offsetBytes} is ${where}`, "choose a smaller one");
  }
  if (spec.sizeBytes > restBytes) throw tooSmall(spec, spec.sizeBytes, backing.sizeBytes);
  const what = spec.sizeBytes > 0 ? "The disk is to have" : describeRest(spec);
  const sizeBytes = spec.sizeBytes || restBytes;
  checkWholeBlocks(what, sizeBytes, blockBytes, (goodBytes) => {
    const bytes = Math.max(goodBytes, blockBytes);
    const grown = Math.ceil(sizeBytes / blockBytes) * blockBytes + offsetBytes;
    if (spec.sizeBytes > 0 || backing.isDevice) return `use --size ${bytes}`;
    return `use --size ${bytes}, or grow it: truncate -s ${grown} ${file}`;
  });
  return sizeBytes;
}

const describeRest = ({ file, offsetBytes }: LoopSpec) =>
  offsetBytes === 0 ? `${file} has` : `${file} has, from --offset ${offsetBytes} on,`;

function tooSmall(spec: LoopSpec, sizeBytes: number, fileBytes: number): UblkError {
  const { file, offsetBytes } = spec;
  const needed = sizeBytes + offsetBytes;
  const offset = offsetBytes === 0 ? "" : ` from --offset ${offsetBytes} on`;
  return new UblkError(
    `${file} has ${fileBytes} bytes (${formatBytes(fileBytes)}): ` +
      `too few for a disk of ${sizeBytes} bytes (${formatBytes(sizeBytes)})${offset}`,
    { hint: `a file is grown by: truncate -s ${needed} ${file}` },
  );
}
