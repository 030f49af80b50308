// A target whose code is somebody's file: whether it is still what a disk was made with, and what of
// the environment its server needs.

import { EXIT, UblkError, UsageError } from "../errors.ts";
import { dataOf } from "../target.ts";
import { findTarget } from "../targets/index.ts";
import { chooseMode, isBatch } from "./modes.ts";
import type { DeviceRecord } from "./store.ts";

type Made = Pick<DeviceRecord, "target" | "spec">;

/** Whether the code is somebody's file. */
export const isOwnCode = ({ target }: Made): boolean => findTarget(target).changed !== undefined;

/** Those of its variables that are set here. */
export function setEnv({ target, spec }: Made): Record<string, string> {
  const names = findTarget(target).env?.(spec) ?? [];
  return Object.fromEntries(
    names.flatMap((name) => {
      const value = process.env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

/** The variables to give the server of this device. Throws UsageError when one is not set. */
export function serverEnv({ target, spec }: Made): Record<string, string> {
  const env: Record<string, string> = {};
  for (const name of findTarget(target).env?.(spec) ?? []) {
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
export function checkBatch({ target, spec }: Made, flags: bigint): void {
  if (!isBatch(flags) || findTarget(target).hosting?.(spec) === undefined) return;
  throw new UsageError(
    `A target of functions cannot be served with --batch: ${target}`,
    "leave it out; a ring target (defineRingTarget) can",
  );
}

/** Files of the target's code that have changed since the record was made. */
export function changedCode({ target, spec }: Made): readonly string[] {
  return findTarget(target).changed?.(spec) ?? [];
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
  const target = findTarget(record.target);
  if (target.renew === undefined || changedCode(record).length === 0) return record;
  const spec = await target.renew(record.spec);
  const { name } = target;
  // The mode is the device's for good: code that cannot run in it is refused here.
  chooseMode(record.mode, { name, data: dataOf(target, spec) }, 0n);
  const now = { ...record, spec };
  checkBatch(now, BigInt(record.flags));
  return now;
}
