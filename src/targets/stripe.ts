// stripe: RAID-0, a disk that lies chunk by chunk in turn on several files or block devices.

import type { ParsedArgs } from "citty";

import { resolve } from "../builtin.ts";
import { UblkError, UsageError } from "../errors.ts";
import {
  type Backing,
  defineTarget,
  type Geometry,
  type OpenContext,
  valuesOf,
} from "../target.ts";
import { formatBytes, parseBytes } from "../units.ts";
import { type BackingFile, openBacking } from "./backing.ts";
import { blocksOf, fileArgs, type FileOptions, parseFileOptions } from "./file-options.ts";
import { overlap, type Place, placeOf } from "./place.ts";
import { StripeLayout } from "./stripe-layout.ts";
import { StripeQueue } from "./stripe-queue.ts";

type StripeSpec = FileOptions & {
  readonly files: readonly string[];
  readonly chunkBytes: number;
};

const MEMBERS_MIN = 2;
const MEMBERS_MAX = 32;
const CHUNK_BYTES_MIN = 4096;
const CHUNK_BYTES_MAX = 512 * 1024;
const IO_BYTES_MAX = 32 * 1024 ** 2;
/** The kernel's UIO_MAXIOV: so many vectors has one READV. */
const VECTORS_MAX = 1024;

const stripeArgs = {
  file: {
    type: "string",
    alias: "f",
    description: `regular file or block device; repeat it, ${MEMBERS_MIN} to ${MEMBERS_MAX} times`,
    valueHint: "FILE",
    repeats: true,
  },
  "chunk-size": {
    type: "string",
    description: "what lies together on one member; a power of two, 4 KiB to 512 KiB",
    valueHint: "SIZE",
    default: "64KiB",
  },
  ...fileArgs,
} as const;

export const stripe = defineTarget({
  name: "stripe",
  summary: "a disk spread over several files or block devices (RAID-0)",
  data: "transfer",
  args: stripeArgs,
  parse: parseStripe,
  open: async (spec: StripeSpec, context) => openStripe(spec, context),
  serve: ({ files, chunkBytes, readOnly, discard }, { queue, facts, fds }) =>
    new StripeQueue(queue, {
      layout: new StripeLayout(files.length, chunkBytes),
      files,
      fds,
      areDevices: (facts["kinds"] as readonly string[]).map((kind) => kind === "device"),
      readOnly,
      canDiscard: facts["canDiscard"] === true,
      mayUnmap: discard,
      blockBytes: Number(facts["blockBytes"]),
      maxIoBytes: Number(facts["maxIoBytes"]),
    }),
  fanOut: ({ files }) => files.length,
  files: ({ files }) => files,
});

function parseStripe(args: ParsedArgs<typeof stripeArgs>): StripeSpec {
  const files = valuesOf(args.file).map((file) => resolve(file));
  if (files.length < MEMBERS_MIN || files.length > MEMBERS_MAX) {
    throw new UsageError(
      `A stripe has ${MEMBERS_MIN} to ${MEMBERS_MAX} members, not ${files.length}`,
      "repeat --file: -f FILE -f FILE",
    );
  }
  const twice = files.find((file, i) => files.indexOf(file) !== i);
  if (twice !== undefined) throw sameMember(twice, twice);
  return { files, chunkBytes: parseChunk(args["chunk-size"]), ...parseFileOptions(args) };
}

function parseChunk(text: string): number {
  const bytes = parseBytes(text, "--chunk-size");
  const isPossible = bytes >= CHUNK_BYTES_MIN && bytes <= CHUNK_BYTES_MAX;
  if (isPossible && Number.isInteger(Math.log2(bytes))) return bytes;
  throw new UsageError(
    `--chunk-size ${text} is not possible`,
    `write a power of two from ${CHUNK_BYTES_MIN} to ${CHUNK_BYTES_MAX}`,
  );
}

function sameMember(one: string, other: string): UsageError {
  const what = one === other ? `${one} is given twice` : `${one} and ${other} are the same`;
  return new UsageError(what, "each member of a stripe is a file or device of its own");
}

function openStripe(spec: StripeSpec, context: OpenContext): Backing {
  const { readOnly, bufferedIo } = spec;
  const members: BackingFile[] = [];
  const close = () => {
    for (const member of members) member[Symbol.dispose]();
  };
  try {
    for (const file of spec.files) {
      members.push(openBacking(file, { readOnly, bufferedIo, context }));
    }
    refuseSame(members);
    const geometry = geometryOf(spec, members);
    noteUnused(spec, members, context);
    return {
      geometry,
      fds: members.map(({ fd }) => fd),
      facts: {
        kinds: members.map(({ isDevice }) => (isDevice ? "device" : "file")),
        blockBytes: geometry.logicalBlockBytes,
        canDiscard: geometry.discard !== undefined,
        maxIoBytes: geometry.maxIoBytes!,
      },
      [Symbol.asyncDispose]: async () => close(),
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** By another name or another node, or a partition and its disk. */
function refuseSame(members: readonly BackingFile[]): void {
  const seen: Place[] = [];
  for (const { path } of members) {
    const place = placeOf(path);
    if (place === undefined) continue;
    const other = seen.find((earlier) => overlap(earlier, place));
    if (other !== undefined) throw sameMember(other.path, path);
    seen.push(place);
  }
}

const smallestOf = (members: readonly BackingFile[]) =>
  members.reduce((least, member) => (member.sizeBytes < least.sizeBytes ? member : least));

/** What is used of each member: whole chunks, as many as the smallest has. */
function usedBytes({ chunkBytes }: StripeSpec, members: readonly BackingFile[]): number {
  const smallest = smallestOf(members);
  const bytes = smallest.sizeBytes - (smallest.sizeBytes % chunkBytes);
  if (bytes > 0) return bytes;
  throw new UblkError(
    `${smallest.path} has ${smallest.sizeBytes} bytes: less than one chunk of ${chunkBytes}`,
    { hint: "make it larger, or --chunk-size smaller" },
  );
}

function noteUnused(
  spec: StripeSpec,
  members: readonly BackingFile[],
  { note, isNew }: OpenContext,
): void {
  if (!isNew) return;
  const used = usedBytes(spec, members);
  for (const { path, sizeBytes } of members) {
    if (sizeBytes - used < spec.chunkBytes) continue;
    note(`${path}: ${formatBytes(sizeBytes - used)} stay unused, another member is smaller`);
  }
}

/** The disk's shape: the strictest member decides. */
function geometryOf(spec: StripeSpec, members: readonly BackingFile[]): Geometry {
  const { chunkBytes, readOnly } = spec;
  const count = members.length;
  const largest = (of: (member: BackingFile) => number) => Math.max(...members.map(of));
  const { logicalBlockBytes, physicalBlockBytes } = blocksOf(spec, members);
  const dmaAlignmentBytes = largest((member) => member.dmaAlignmentBytes ?? 0);
  const optimalIoBytes = chunkBytes * count;
  const { discard, writeZeroes } = rangesOf(spec, members);
  return {
    sizeBytes: usedBytes(spec, members) * count,
    logicalBlockBytes,
    physicalBlockBytes,
    optimalIoBytes: Number.isInteger(Math.log2(optimalIoBytes)) ? optimalIoBytes : chunkBytes,
    // A part begins and ends inside a chunk.
    maxIoBytes: Math.min(IO_BYTES_MAX, (VECTORS_MAX - 2) * chunkBytes * count),
    readOnly,
    rotational: members.some(({ rotational }) => rotational),
    volatileCache: true,
    fua: true,
    ...(dmaAlignmentBytes === 0 ? {} : { dmaAlignmentBytes }),
    ...(discard && {
      discard: {
        ...discard,
        granularityBytes: Math.max(discard.granularityBytes, logicalBlockBytes),
      },
    }),
    ...(writeZeroes && { writeZeroes }),
  };
}

/** What all members can do, and on how much at once: `n` rows of the disk are `n` chunks of each. */
function rangesOf(
  { discard: mayDiscard, readOnly, chunkBytes }: StripeSpec,
  members: readonly BackingFile[],
): Pick<Geometry, "discard" | "writeZeroes"> {
  if (readOnly) return {};
  const least = (bytes: readonly number[]) => {
    const memberBytes = Math.min(...bytes);
    const chunks = Math.floor(memberBytes / chunkBytes);
    return Math.max(chunks * chunkBytes * members.length, memberBytes);
  };
  const discards = members.flatMap(({ discard }) => discard ?? []);
  const zeroes = members
    // In a file only punching is known to work, and without discards nothing may be punched.
    .filter(({ isDevice }) => mayDiscard || isDevice)
    .flatMap(({ writeZeroes }) => writeZeroes ?? []);
  return {
    ...(mayDiscard && discards.length === members.length
      ? {
          discard: {
            maxBytes: least(discards.map(({ maxBytes }) => maxBytes)),
            granularityBytes: Math.max(...discards.map((discard) => discard.granularityBytes)),
          },
        }
      : {}),
    ...(zeroes.length === members.length
      ? { writeZeroes: { maxBytes: least(zeroes.map(({ maxBytes }) => maxBytes)) } }
      : {}),
  };
}
