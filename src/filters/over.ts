// A disk with a filter over it is a disk again: what the filter does not do goes below.

import type { Disk, DiskBelow, FilterDisk } from "ublk-bun";

import { diskProblem, geometryOf, noDisk } from "../script/disk.ts";
import type { Geometry } from "../target.ts";

/** A disk and its shape, as they are stacked. */
export interface Layer {
  readonly disk: Disk;
  readonly geometry: Geometry;
}

/** What a filter's `open` returned must be, functions at least. In words; undefined: nothing is wrong. */
export function filterProblem(own: unknown): string | undefined {
  const none = noDisk(own);
  if (none !== undefined) return none;
  // Whatever is left out is below.
  return diskProblem({ sizeBytes: 4096, read: () => {}, ...defined(own as object) });
}

/** The disk of `own` over `lower`, which `lowerDisk` is for the filter; `close` closes both. */
export function over(own: FilterDisk, lower: Layer, lowerDisk: DiskBelow): Layer {
  const { geometry } = lower;
  const disk: Disk = {
    sizeBytes: lowerDisk.sizeBytes,
    ...defined(pick<DiskBelow, (typeof SHAPE)[number]>(lowerDisk, SHAPE)),
    ...defined(pick<FilterDisk, (typeof SHAPE)[number]>(own, SHAPE)),
    read: own.read?.bind(own) ?? lowerDisk.read,
    write: own.write?.bind(own) ?? lowerDisk.write,
    fua: own.fua ?? (own.write === undefined ? geometry.fua : own.write.length >= 3),
    ...functionsOf(own, lowerDisk, geometry),
    close: async () => {
      await own.close?.();
      await lower.disk.close?.();
    },
  };
  return { disk, geometry: geometryOf(disk) };
}

const SHAPE = [
  "sizeBytes",
  "logicalBlockBytes",
  "physicalBlockBytes",
  "readOnly",
  "maxIoBytes",
  "optimalIoBytes",
  "rotational",
  "maxDiscardBytes",
  "maxWriteZeroesBytes",
] as const;

/** Those whose presence says what the disk can do. */
function functionsOf(
  own: FilterDisk,
  lowerDisk: DiskBelow,
  { volatileCache, discard, writeZeroes }: Geometry,
): Pick<Disk, "flush" | "discard" | "writeZeroes"> {
  const has = {
    flush: own.flush !== undefined || volatileCache,
    discard: own.maxDiscardBytes !== undefined || discard !== undefined,
    writeZeroes: own.maxWriteZeroesBytes !== undefined || writeZeroes !== undefined,
  };
  return {
    ...(has.flush && { flush: own.flush?.bind(own) ?? lowerDisk.flush }),
    ...(has.discard && { discard: own.discard?.bind(own) ?? lowerDisk.discard }),
    ...(has.writeZeroes && {
      writeZeroes: own.writeZeroes?.bind(own) ?? lowerDisk.writeZeroes,
    }),
  };
}

const pick = <T extends object, K extends keyof T>(from: T, keys: readonly K[]) =>
  Object.fromEntries(keys.map((key) => [key, from[key]])) as Partial<Pick<T, K>>;

/** Without what is undefined: it says nothing. */
function defined<T extends object>(from: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(
    Object.entries(from).filter(([, value]) => value !== undefined),
  ) as never;
}
