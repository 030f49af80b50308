// update-size: gives a live disk another size. The kernel checks nothing, so everything is checked here.

import type { DevInfo } from "../control/commands/dev-info.ts";
import { getDevInfo, updateSize } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { EXIT, UblkError, UsageError } from "../errors.ts";
import { type DiskTarget, targetOf } from "../filters/stack.ts";
import type { Spec } from "../target.ts";
import { formatBytes, nearestMultiple } from "../units.ts";
import { diskPath, diskShape } from "./disk.ts";
import { diskHolders } from "./holders.ts";
import { assertOurs } from "./identity.ts";
import type { DeviceRecord, Store } from "./store.ts";

const SECTOR_BYTES = 512;

export interface ResizeOptions {
  readonly control: Control;
  readonly store: Store;
  /** Shrink although the disk is open. */
  readonly force: boolean;
}

export interface Resized {
  readonly id: number;
  readonly sizeBytes: number;
  readonly previousSizeBytes: number;
}

type Resizable = DiskTarget & Required<Pick<DiskTarget, "resize">>;

/** Changes the disk's size under the device's lock. A refusal leaves disk, backing and record alone. */
export async function resizeDevice(
  id: number,
  sizeBytes: number,
  options: ResizeOptions,
): Promise<Resized> {
  const { control, store } = options;
  store.prepare();
  using lock = store.lock(id, "update-size");
  void lock;
  const info = await control.run(getDevInfo, id, undefined);
  control.assertHas(updateSize);
  const record = store.load(id);
  assertOurs(record, info, "only devices of ublk-bun can be resized; nothing was changed");
  const target = resizableTarget(record);
  const previousSizeBytes = checkedShape(info, sizeBytes);
  if (sizeBytes > previousSizeBytes) await grow(record, target, sizeBytes, control, store);
  if (sizeBytes < previousSizeBytes) {
    if (!options.force) refuseIfOpen(id, previousSizeBytes);
    await shrink(record, target, { sizeBytes, previousSizeBytes }, control, store);
  }
  // What an earlier one was kept from.
  if (sizeBytes === previousSizeBytes) await conclude(record, target, sizeBytes, store);
  return { id, sizeBytes, previousSizeBytes };
}

/** The record first: should we die in between, the backing is larger than the disk, as recover allows. */
async function grow(
  record: DeviceRecord,
  target: Resizable,
  sizeBytes: number,
  control: Control,
  store: Store,
): Promise<void> {
  const spec = await target.resize(record.spec, sizeBytes, record);
  store.save({ ...record, spec });
  try {
    await setSize(control, record.id, sizeBytes);
  } catch (error) {
    store.save(record);
    throw error;
  }
}

/**
 * The disk first, and what the backing has too much last: at every moment, and should we die at any, it holds
 * what the disk offers and what the record says.
 */
async function shrink(
  record: DeviceRecord,
  target: Resizable,
  { sizeBytes, previousSizeBytes }: { sizeBytes: number; previousSizeBytes: number },
  control: Control,
  store: Store,
): Promise<void> {
  await setSize(control, record.id, sizeBytes);
  let spec: Spec;
  try {
    spec = await saved(record, target, sizeBytes, store);
  } catch (error) {
    await setSize(control, record.id, previousSizeBytes);
    throw error;
  }
  await target.trim?.(spec, record);
}

/** The disk has this size: its record and its backing, too. */
async function conclude(
  record: DeviceRecord,
  target: Resizable,
  sizeBytes: number,
  store: Store,
): Promise<void> {
  const spec = await saved(record, target, sizeBytes, store);
  await target.trim?.(spec, record);
}

/** The spec with this size; the record has it then. */
async function saved(
  record: DeviceRecord,
  target: Resizable,
  sizeBytes: number,
  store: Store,
): Promise<Spec> {
  const spec = await target.resize(record.spec, sizeBytes, record);
  if (!Bun.deepEquals(spec, record.spec)) store.save({ ...record, spec });
  return spec;
}

function setSize(control: Control, id: number, sizeBytes: number): Promise<void> {
  return control.run(updateSize, id, { sectors: BigInt(sizeBytes / SECTOR_BYTES) });
}

function resizableTarget(record: DeviceRecord): Resizable {
  const target = targetOf(record);
  if (target.resize !== undefined) return target as Resizable;
  throw new UblkError(`A disk of ${target.name} cannot change its size`, {
    exitCode: EXIT.notSupported,
    hint: "nothing was changed",
  });
}

/** The disk's present size, once the new one is known to fit its blocks. */
function checkedShape(info: DevInfo, sizeBytes: number): number {
  const { id, state } = info;
  const shape = diskShape(id);
  if (state !== "LIVE" || shape === undefined) {
    throw new UblkError(`Device ${id} is ${state}: only a live disk can change its size`, {
      hint: state === "DEAD" ? "it was stopped" : `first run: ublk-bun recover ${id}`,
    });
  }
  const { logicalBlockBytes } = shape;
  if (sizeBytes >= logicalBlockBytes && sizeBytes % logicalBlockBytes === 0) return shape.sizeBytes;
  throw new UsageError(
    `${sizeBytes} bytes is not a whole number of ${logicalBlockBytes}-byte blocks`,
    `the nearest is ${nearestMultiple(sizeBytes, logicalBlockBytes)}`,
  );
}

function refuseIfOpen(id: number, previousSizeBytes: number): void {
  const holders = diskHolders(id);
  if (holders.length === 0) return;
  throw new UblkError(`${diskPath(id)} is in use: ${holders.join(", ")}`, {
    exitCode: EXIT.busy,
    hint: `whoever uses its ${formatBytes(previousSizeBytes)} would lose the end; all the same: --force`,
  });
}
