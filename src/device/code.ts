// A disk whose code is somebody's file, a target's or a filter's: whether it is still what it was made
// with, and what of the environment its server needs.

import { EXIT, UblkError, UsageError } from "../errors.ts";
import { type Made, renewFilters, targetOf } from "../filters/stack.ts";
import { dataOf } from "../target.ts";
import { findTarget } from "../targets/index.ts";
import { chooseMode, isBatch } from "./modes.ts";
import type { DeviceRecord } from "./store.ts";

/** Whether the code is somebody's file. */
export const isOwnCode = (made: Made): boolean => targetOf(made).changed !== undefined;

/** Those of its variables that are set here. */
export function setEnv(made: Made): Record<string, string> {
  const names = targetOf(made).env?.(made.spec) ?? [];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

/** The variables to give the server of this device. Throws UsageError when one is not set. */
export function serverEnv(made: Made): Record<string, string> {
  const env: Record<string, string> = {};
  for (const name of targetOf(made).env?.(made.spec) ?? []) {
    const value = process.env[name];
    if (value === undefined) {
      throw new UsageError(
        `The variable ${name} is not set, and the target needs it (--env ${name})`,
        "nothing was changed; set it, and run the same command again",
      );
    }
    env[name] = value;
  }
  return env;
}

/** Throws UsageError where the device has batch commands, and the target cannot do with them. */
export function checkBatch(made: Made, flags: bigint): void {
  const { target, spec, filters = [] } = made;
  if (!isBatch(flags) || targetOf(made).hosting?.(spec) === undefined) return;
  if (filters.length > 0) {
    throw new UsageError(
      "A disk with filters cannot be served with --batch",
      "leave one of them out",
    );
  }
  throw new UsageError(
    `A target of functions cannot be served with --batch: ${target}`,
    "leave it out; a ring target (defineRingTarget) can",
  );
}

/** Files of the disk's code that have changed since the record was made. */
export function changedCode(made: Made): readonly string[] {
  return targetOf(made).changed?.(made.spec) ?? [];
}

/** Throws (exit 6) when the code has changed, and `accepts` is false. */
export function checkCode(record: DeviceRecord, accepts: boolean): void {
  const changed = changedCode(record);
  if (changed.length === 0 || accepts) return;
  throw new UblkError(
    `The code of device ${record.id} has changed since it was made: ${changed.join(", ")}`,
    {
      exitCode: EXIT.notRecoverable,
      hint: "nothing was changed; to serve the disk with the new code: --accept-changes",
    },
  );
}

/** The record with the code as it is now; the same one where it has not changed. */
export async function withCodeOfNow(record: DeviceRecord): Promise<DeviceRecord> {
  if (changedCode(record).length === 0) return record;
  const { target, spec, filters } = record;
  const now = {
    ...record,
    spec: (await findTarget(target).renew?.(spec)) ?? spec,
    ...(filters && { filters: await renewFilters(filters) }),
  };
  const renewed = targetOf(now);
  // The mode is the device's for good: code that cannot run in it is refused here.
  chooseMode(record.mode, { name: renewed.name, data: dataOf(renewed, now.spec) }, 0n);
  checkBatch(now, BigInt(record.flags));
  return now;
}
