// Options that several commands share, as citty's own definitions.

import type { ArgsDef } from "citty";

import { UsageError } from "../errors.ts";
import { parseInteger, parseMilliseconds } from "../units.ts";

export const DEVICE_ID_MAX = 1_048_575;

export const idArgs = {
  id: { type: "positional", required: false, description: "the device's number" },
  number: { type: "string", alias: "n", description: "the same, as an option", valueHint: "ID" },
} as const satisfies ArgsDef;

export const commonArgs = {
  timeout: {
    type: "string",
    description: "how long to wait for the kernel or for others (s, ms, m)",
    valueHint: "TIME",
    default: "30s",
  },
  "run-dir": {
    type: "string",
    description: "folder for records and logs",
    valueHint: "DIR",
    default: "/run/ublk-bun",
  },
  liburing: {
    type: "string",
    description: "a liburing.so.2 to use instead of the built-in one (or UBLK_BUN_LIBURING)",
    valueHint: "PATH",
  },
} as const satisfies ArgsDef;

export const jsonArg = {
  json: { type: "boolean", description: "print JSON" },
} as const satisfies ArgsDef;

export const quietArg = {
  quiet: { type: "boolean", description: "print nothing when all is well" },
} as const satisfies ArgsDef;

/** Of commands that start a server. */
export const launchArgs = {
  foreground: { type: "boolean", description: "stay, log to this terminal, end with Ctrl-C" },
  ...quietArg,
} as const satisfies ArgsDef;

/** The device named by position or by -n; undefined when by neither. */
export function optionalId(args: { id?: string | undefined; number?: string | undefined }) {
  const { id, number } = args;
  if (id !== undefined && number !== undefined && id !== number) {
    throw new UsageError(`Two devices are named: ${id} and ${number}`, "name one of them");
  }
  const word = id ?? number;
  if (word === undefined) return undefined;
  // People paste what they see: the disk's path names the device as well as its number.
  const digits = /^\/dev\/ublk[bc](\d+)$/.exec(word)?.[1] ?? word;
  return parseInteger(digits, "device id", { min: 0, max: DEVICE_ID_MAX });
}

/** The device that a command is about. */
export function requiredId(args: { id?: string | undefined; number?: string | undefined }): number {
  const id = optionalId(args);
  if (id === undefined)
    throw new UsageError("Which device?", "give its number; see: ublk-bun list");
  return id;
}

export const timeoutOf = (args: { timeout: string }): number => timeOf(args.timeout, "--timeout");

/** At least a millisecond: with none, every command would fail. */
export function timeOf(text: string, what: string): number {
  const timeMs = parseMilliseconds(text, what);
  if (timeMs > 0) return timeMs;
  throw new UsageError(`${what} ${text} leaves no time at all`, `such as ${what} 30s`);
}
