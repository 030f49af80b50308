// Words with units to numbers and back: "64MiB", "4k", "30s".

import { UsageError } from "./errors.ts";

const BYTE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  b: 1,
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
  p: 1024 ** 5,
};

const TIME_UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  "": 1000,
  m: 60_000,
  h: 3_600_000,
};

/** "64MiB", "64M", "64m", "67108864" -> bytes; units are powers of 1024. `what` names the option. */
export function parseBytes(text: string, what: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?$/i.exec(text.trim());
  const unit = match && BYTE_UNITS[match[2]!.toLowerCase()];
  const bytes = match && unit ? Number(match[1]) * unit : Number.NaN;
  if (Number.isSafeInteger(bytes)) return bytes;
  if (bytes > Number.MAX_SAFE_INTEGER) {
    throw new UsageError(`${what} "${text}" is too large`, "at most 8PiB less a byte");
  }
  throw new UsageError(
    `${what} "${text}" is not a size`,
    "write a number of bytes, or one with KiB, MiB, GiB or TiB, such as 64MiB",
  );
}

/** "30", "30s", "500ms", "2m", "1h" -> milliseconds; a bare number means seconds. */
export function parseMilliseconds(text: string, what: string): number {
  const match = /^(\d+(?:\.\d+)?)\s*(ms|s|m|h|)$/i.exec(text.trim());
  const milliseconds = match ? Number(match[1]) * TIME_UNITS[match[2]!.toLowerCase()]! : Number.NaN;
  // setTimeout cannot wait longer than 31 bits of milliseconds.
  if (milliseconds >= 0 && milliseconds < 2 ** 31) return Math.round(milliseconds);
  throw new UsageError(
    `${what} "${text}" is not a length of time`,
    "write seconds, or a number with ms, s, m or h, such as 500ms",
  );
}

/** A whole number between `min` and `max`. */
export function parseInteger(
  text: string,
  what: string,
  { min, max }: { min: number; max: number },
): number {
  const value = /^-?\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw new UsageError(
    `${what} "${text}" is not possible`,
    `write a whole number from ${min} to ${max}`,
  );
}

/** "0.05", "5%" -> 0.05; from 0 to 1. */
export function parseRate(text: string, what: string): number {
  const match = /^(\d*\.?\d+)(%?)$/.exec(text.trim());
  const rate = match ? Number(match[1]) / (match[2] === "%" ? 100 : 1) : Number.NaN;
  if (rate >= 0 && rate <= 1) return rate;
  throw new UsageError(
    `${what} "${text}" is not possible`,
    "write a part of all requests from 0 to 1, or percent, such as 0.05 or 5%",
  );
}

/** 268435456000 -> "250 GiB"; exact where it can be. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let power = 0;
  while (power < units.length - 1 && bytes >= 1024 ** (power + 1)) power++;
  return `${Number((bytes / 1024 ** power).toFixed(2))} ${units[power]}`;
}

/** The whole number of blocks that is nearest; at least one. */
export function nearestMultiple(bytes: number, blockBytes: number): number {
  return Math.max(1, Math.round(bytes / blockBytes)) * blockBytes;
}

/** The size of a disk: at least one block, a whole number of them. */
export function parseDiskSize(text: string, blockBytes: number): number {
  const bytes = parseBytes(text, "--size");
  if (bytes >= blockBytes && bytes % blockBytes === 0) return bytes;
  throw new UsageError(
    `--size ${text} is not a whole number of ${blockBytes}-byte blocks`,
    `the nearest is ${nearestMultiple(bytes, blockBytes)}`,
  );
}
