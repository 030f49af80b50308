// recover --target: the record of a device made anew, from what the kernel knows and a person says.

import type { DevInfo } from "../control/commands/dev-info.ts";
import { EXIT, UblkError, UsageError } from "../errors.ts";
import { UBLK_F } from "../ffi/ublk.ts";
import type { FilterSpec } from "../filter.ts";
import { assertApart, targetOf } from "../filters/stack.ts";
import { dataOf, type Spec } from "../target.ts";
import { findTarget } from "../targets/index.ts";
import { checkBatch } from "./code.ts";
import { identityText, isMadeByUs, isOurs } from "./identity.ts";
import { flagNames } from "./inspect.ts";
import { chooseMode, modeOf } from "./modes.ts";
import { chooseRecovery, recoveryOf } from "./recovery.ts";
import { bootId, type DeviceRecord, recordVersion, type Store } from "./store.ts";

/** What the disk shall do from now on. */
export interface Retarget {
  readonly target: string;
  readonly spec: Spec;
  /** undefined: nothing was said of filters. */
  readonly filters: readonly FilterSpec[] | undefined;
  /** Running a request twice does no harm; known to whoever has loaded its code. */
  readonly isRepeatable: boolean;
}

/** Devices that are served in a way we do not know. */
const FOREIGN_FLAGS = UBLK_F.ZONED | UBLK_F.UNPRIVILEGED_DEV | UBLK_F.INTEGRITY;
const STALL_TIMEOUT_MS = 30_000;

/**
 * The record to serve the device by; nothing is saved. What the kernel knows comes from it, the rest
 * from the old record where there is a usable one. Throws where `force` is needed and not given.
 */
export function retargeted(
  info: DevInfo,
  { target, spec, filters, isRepeatable }: Retarget,
  { store, force, note }: { store: Store; force: boolean; note: (text: string) => void },
): DeviceRecord {
  const { id, flags } = info;
  const recorded = store.loadIfUsable(id);
  const old = isOurs(recorded, info) ? recorded : undefined;
  if (old === undefined && !isMadeByUs(info) && !force) {
    throw new UblkError(`Device ${id} is not ours: another tool made it`, {
      exitCode: EXIT.notRecoverable,
      hint: "nothing was changed; to serve it all the same: --force",
    });
  }
  const foreign = flagNames(flags & FOREIGN_FLAGS);
  if (foreign.length > 0) {
    throw new UblkError(`Device ${id} cannot be served by ublk-bun: it has ${foreign.join(", ")}`, {
      exitCode: EXIT.notRecoverable,
      hint: "recover it with the tool that made it",
    });
  }
  if (filters === undefined && (old?.filters?.length ?? 0) > 0) {
    // Writes that an overlay has caught would go to the disk below from now on.
    throw new UsageError(
      `Device ${id} has filters: ${old!.filters!.map(({ name }) => name).join(", ")}`,
      "nothing was changed; say with --filter what they are to be, or: --filter none",
    );
  }
  const made = { target, spec, ...(filters?.length ? { filters } : {}) };
  assertApart(made);
  const mode = modeOf(flags);
  checkBatch(made, flags);
  const found = targetOf(made);
  chooseMode(mode, { name: found.name, data: dataOf(found, spec) }, flags);
  // The device's for good: it only warns.
  const recovery = chooseRecovery(recoveryOf(flags), isRepeatable, note);
  if (old !== undefined && old.target !== target && findTarget(old.target).remove !== undefined) {
    note(`what ${old.target} kept for device ${id} is not removed`);
  }
  const { filters: _filters, ...rest } = old ?? {};
  return {
    stallTimeoutMs: STALL_TIMEOUT_MS,
    liburing: "",
    restarts: 0,
    ...rest,
    version: recordVersion(made),
    id,
    identity: identityText(info.identity),
    bootId: bootId(),
    ...made,
    queues: info.queues,
    depth: info.depth,
    ioBufBytes: info.ioBufBytes,
    ioDescBytes: info.ioDescBytes,
    mode,
    flags: `0x${flags.toString(16)}`,
    recovery,
    log: store.logPath(id),
    program: process.execPath,
  };
}
