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
  const change = { record, target, sizeBytes, previousSizeBytes, control, store };
  if (sizeBytes > previousSizeBytes) await grow(change);
  if (sizeBytes < previousSizeBytes) {
    if (!options.force) refuseIfOpen(id, previousSizeBytes);
    await shrink(change);
  }
  const recorded = recordedBytes(record) ?? sizeBytes;
  if (sizeBytes === previousSizeBytes && recorded !== sizeBytes) await conclude(change);
  return { id, sizeBytes, previousSizeBytes };
}

interface Change extends Pick<ResizeOptions, "control" | "store"> {
  readonly record: DeviceRecord;
  readonly target: Resizable;
  readonly sizeBytes: number;
  /** What the disk has, whatever the record says. */
  readonly previousSizeBytes: number;
}

/** The record first: should we die in between, the backing is larger than the disk, as recover allows. */
async function grow(change: Change): Promise<void> {
  const { record, sizeBytes, control, store } = change;
  store.save({ ...record, spec: await resized(change) });
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
async function shrink(change: Change): Promise<void> {
  const { record, target, sizeBytes, previousSizeBytes, control, store } = change;
  await setSize(control, record.id, sizeBytes);
  let spec: Spec;
  try {
    spec = await resized(change);
    store.save({ ...record, spec });
  } catch (error) {
    await setSize(control, record.id, previousSizeBytes);
    throw error;
  }
  await target.trim?.(spec, record);
}

/** The disk has this size, and an earlier command was kept from saying so in the record. */
async function conclude(change: Change): Promise<void> {
  const { record, target, store } = change;
  const spec = await resized(change);
  store.save({ ...record, spec });
  await target.trim?.(spec, record);
}

const resized = ({ record, target, sizeBytes, previousSizeBytes }: Change): Promise<Spec> =>
  target.resize({ ...record.spec, sizeBytes: previousSizeBytes }, sizeBytes, record);

/** 0: as much as the backing has. */
function recordedBytes({ spec }: DeviceRecord): number | undefined {
  return Number(spec["sizeBytes"]) || undefined;
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
