// What a target file's `open` returned: checked, and said as the geometry that the kernel is told.

import type { Disk, RingDisk, Shape } from "ublk-bun";

import type { Geometry } from "../target.ts";

const BLOCK_BYTES_MIN = 512;
const BLOCK_BYTES_MAX = 4096;
const PHYSICAL_BYTES_MAX = 1024 ** 2;
const PAGE_BYTES = 4096;
/** One request discards or zeroes no more, so that it ends in good time. */
const RANGE_BYTES_MAX = 1024 ** 3;
const OPTIONAL = ["write", "flush", "discard", "writeZeroes", "close"] as const;
const SWITCHES = ["readOnly", "rotational", "fua", "volatileCache"] as const;

/** What is wrong with it, in words; undefined: it is a disk. */
export function diskProblem(value: unknown): string | undefined {
  const none = noDisk(value);
  if (none !== undefined) return none;
  const disk = value as Partial<Disk>;
  if (typeof disk.read !== "function") return "open returned a disk without a read function";
  const wrong = OPTIONAL.find(
    (name) => disk[name] !== undefined && typeof disk[name] !== "function",
  );
  if (wrong !== undefined) return `open returned a disk whose ${wrong} is not a function`;
  return shapeProblem(disk);
}

/** The same for what a ring target's `open` returned. */
export function ringDiskProblem(value: unknown): string | undefined {
  const none = noDisk(value);
  if (none !== undefined) return none;
  const { fds } = value as Partial<RingDisk>;
  const isList = Array.isArray(fds) && fds.every((fd) => Number.isInteger(fd) && fd >= 0);
  if (!isList) return "open returned a disk whose fds is not a list of open files";
  return shapeProblem(value as Partial<RingDisk>);
}

/** Why it is nothing that could be a disk. Of a generator nothing has run: it would be a disk that does nothing. */
export function noDisk(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return "open returned no disk";
  if (Symbol.iterator in value || Symbol.asyncIterator in value) {
    return "open returned a list or a generator, which is no disk";
  }
  return undefined;
}

/** A disk that `diskProblem` finds nothing wrong with: what it has is advertised, and nothing else. */
export function geometryOf(disk: Disk): Geometry {
  const readOnly = isReadOnly(disk);
  const ranges = {
    discard: !readOnly && disk.discard !== undefined,
    writeZeroes: !readOnly && disk.writeZeroes !== undefined,
  };
  return {
    ...geometryOfShape(disk, readOnly, disk, ranges),
    volatileCache: !readOnly && disk.flush !== undefined,
    fua: !readOnly && disk.flush !== undefined && heedsFua(disk),
  };
}

/** The same for a ring target. */
export function ringGeometryOf(disk: RingDisk): Geometry {
  const readOnly = disk.readOnly === true;
  const ranges = {
    discard: !readOnly && disk.maxDiscardBytes !== undefined,
    writeZeroes: !readOnly && disk.maxWriteZeroesBytes !== undefined,
  };
  return {
    ...geometryOfShape(disk, readOnly, disk, ranges),
    volatileCache: disk.volatileCache === true,
    fua: disk.volatileCache === true && disk.fua === true,
  };
}

/** A write that does not ask what else is wanted of it does not hear that it must be durable. */
const heedsFua = ({ fua, write }: Disk) => fua ?? (write?.length ?? 0) >= 3;

export const isReadOnly = ({ readOnly, write }: Disk) => readOnly === true || write === undefined;

function geometryOfShape(
  shape: Shape,
  readOnly: boolean,
  limits: Pick<Disk, "maxDiscardBytes" | "maxWriteZeroesBytes">,
  ranges: { readonly discard: boolean; readonly writeZeroes: boolean },
): Omit<Geometry, "volatileCache" | "fua"> {
  const logicalBlockBytes = shape.logicalBlockBytes ?? BLOCK_BYTES_MIN;
  const { maxIoBytes, optimalIoBytes } = shape;
  return {
    sizeBytes: shape.sizeBytes,
    logicalBlockBytes,
    physicalBlockBytes: shape.physicalBlockBytes ?? PAGE_BYTES,
    readOnly,
    rotational: shape.rotational === true,
    ...(maxIoBytes === undefined ? {} : { maxIoBytes }),
    ...(optimalIoBytes === undefined ? {} : { optimalIoBytes }),
    ...(ranges.discard
      ? {
          discard: {
            maxBytes: limits.maxDiscardBytes ?? RANGE_BYTES_MAX,
            granularityBytes: logicalBlockBytes,
          },
        }
      : {}),
    ...(ranges.writeZeroes
      ? { writeZeroes: { maxBytes: limits.maxWriteZeroesBytes ?? RANGE_BYTES_MAX } }
      : {}),
  };
}

function shapeProblem(shape: Partial<Disk> & Partial<RingDisk>): string | undefined {
  const loose = SWITCHES.find((name) => !["boolean", "undefined"].includes(typeof shape[name]));
  if (loose !== undefined) return `${loose} is ${shown(shape[loose])}: true or false`;
  const { sizeBytes, logicalBlockBytes: logical = BLOCK_BYTES_MIN } = shape;
  const { physicalBlockBytes: physical = PAGE_BYTES, maxIoBytes, optimalIoBytes } = shape;
  if (!isPowerOfTwo(logical, BLOCK_BYTES_MIN, BLOCK_BYTES_MAX)) {
    return `logicalBlockBytes is ${shown(logical)}: a power of two from 512 to 4096`;
  }
  if (!isPowerOfTwo(physical, logical, PHYSICAL_BYTES_MAX)) {
    return `physicalBlockBytes is ${shown(physical)}: a power of two from ${logical} to 1 MiB`;
  }
  // Linux reads a disk by the page: a smaller one is good for nothing.
  if (!isMultiple(sizeBytes, logical) || sizeBytes! < PAGE_BYTES) {
    return `sizeBytes is ${shown(sizeBytes)}: a multiple of ${logical}, from ${PAGE_BYTES} to less than 8 PiB`;
  }
  if (maxIoBytes !== undefined && !isMultiple(maxIoBytes, PAGE_BYTES)) {
    return `maxIoBytes is ${shown(maxIoBytes)}: a multiple of ${PAGE_BYTES}`;
  }
  if (optimalIoBytes !== undefined && !isPowerOfTwo(optimalIoBytes, logical, 2 ** 30)) {
    return `optimalIoBytes is ${shown(optimalIoBytes)}: a power of two from ${logical} to 1 GiB`;
  }
  for (const name of ["maxDiscardBytes", "maxWriteZeroesBytes"] as const) {
    if (shape[name] === undefined || isMultiple(shape[name], logical)) continue;
    return `${name} is ${shown(shape[name])}: a multiple of ${logical}`;
  }
  return undefined;
}

const isPowerOfTwo = (value: unknown, min: number, max: number) =>
  typeof value === "number" && Number.isInteger(Math.log2(value)) && value >= min && value <= max;

const isMultiple = (value: unknown, of: number) =>
  Number.isSafeInteger(value) && Number(value) > 0 && Number(value) % of === 0;

/** With its type, where that is what is wrong. */
function shown(value: unknown): string {
  const isPlain = ["number", "undefined"].includes(typeof value);
  return isPlain ? String(value) : `${Bun.inspect(value)} (of type ${typeof value})`;
}
