// Whose device is it? ADD_DEV puts 64 random bits into ublksrv_flags, the kernel keeps them, and the
// record holds them too: a device with other bits belongs to somebody else, and is left alone.

import type { DevInfo } from "../control/commands/dev-info.ts";
import { EXIT, UblkError } from "../errors.ts";
import { bootId, type DeviceRecord } from "./store.ts";

/** Set in every identity of ours: other servers leave 0 there, or flags of their own, low ones. */
const OUR_BIT = 1n << 63n;

/** Random, and marked as ours. */
export function newIdentity(): bigint {
  const [bits = 0n] = crypto.getRandomValues(new BigUint64Array(1));
  return bits | OUR_BIT;
}

/** True for a device that this program made, whether there is a record of it or not. */
export function isMadeByUs(info: DevInfo): boolean {
  return (info.identity & OUR_BIT) !== 0n;
}

export const identityText = (identity: bigint) => identity.toString(16).padStart(16, "0");

/** The device that the record describes, as the kernel knows it. */
export function deviceOf({ id, identity }: DeviceRecord): Pick<DevInfo, "id" | "identity"> {
  return { id, identity: BigInt(`0x${identity}`) };
}

/** True when the record describes this very device. */
export function isOurs(record: DeviceRecord | undefined, info: DevInfo): record is DeviceRecord {
  return record?.identity === identityText(info.identity) && record.bootId === bootId();
}

/** Throws (exit 6) unless the record describes this very device. `remedy` says what helps. */
export function assertOurs(
  record: DeviceRecord | undefined,
  info: DevInfo,
  remedy: string,
): asserts record is DeviceRecord {
  if (isOurs(record, info)) return;
  const why =
    record === undefined
      ? "there is no record of it"
      : "another tool made it; the record is of an earlier device with the same id";
  throw new UblkError(`Device ${info.id} is not ours: ${why}`, {
    exitCode: EXIT.notRecoverable,
    hint: remedy,
  });
}
