// Everything that can be told of a device: from the kernel, sysfs and the record, touching nothing.

import type { DeviceStateName, DevInfo } from "../control/commands/dev-info.ts";
import { getParams, getQueueAffinity } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { UBLK_F } from "../ffi/ublk.ts";
import type { FilterSpec } from "../filter.ts";
import type { Spec } from "../target.ts";
import { charPath, diskPath, diskShape, inFlight } from "./disk.ts";
import { holdsChar } from "./holders.ts";
import { identityText, isOurs } from "./identity.ts";
import { isBatch, type Mode } from "./modes.ts";
import { isAlive } from "./processes.ts";
import { recoveryOf } from "./recovery.ts";
import type { Recovery, Store } from "./store.ts";
import { queueThreads } from "./threads.ts";

/** One device, as `list --json` prints it. Fields are added, never renamed or removed. */
export interface DeviceReport {
  readonly id: number;
  readonly path: string;
  readonly charPath: string;
  readonly state: DeviceStateName;
  /** null: nobody serves it. */
  readonly serverPid: number | null;
  readonly queues: readonly QueueReport[];
  readonly depth: number;
  readonly sizeBytes: number;
  readonly logicalBlockBytes: number;
  readonly ioBufBytes: number;
  readonly inFlight: number;
  /** Names of the UBLK_F bits. */
  readonly flags: readonly string[];
  readonly flagsHex: string;
  readonly ownerUid: number;
  readonly ownerGid: number;
  readonly recovery: Recovery;
  /** False for a device that another tool made, or whose record is lost. */
  readonly ours: boolean;
  readonly identity: string;
  readonly target: string | null;
  readonly spec: Spec | null;
  /** What lies over the target, the lowest first. */
  readonly filters: readonly FilterSpec[];
  /** How data travels. */
  readonly mode: Mode | null;
  /** Its server is given many requests by one command. */
  readonly batch: boolean;
  /** How often it has been recovered. */
  readonly restarts: number | null;
  readonly log: string | null;
}

export interface QueueReport {
  /** The Worker that serves it; null while nobody does. */
  readonly threadId: number | null;
  readonly cpus: readonly number[];
}

/** The device's server: -1 for none. 6.12 goes on naming a dead one, and a pid may be reused. */
export function serverPid(info: DevInfo): number {
  const { serverPid: pid } = info;
  return isAlive(pid) && holdsChar(pid, info.id) ? pid : -1;
}

/** Names of the bits of `flags`; an unnamed bit shows as its number. */
export function flagNames(flags: bigint): string[] {
  const names = new Map(Object.entries(UBLK_F).map(([name, bit]) => [bit as bigint, name]));
  return Array.from({ length: 64 }, (_, i) => 1n << BigInt(i))
    .filter((bit) => (flags & bit) !== 0n)
    .map((bit) => names.get(bit) ?? `0x${bit.toString(16)}`);
}

/** Reports on one device. */
export async function inspect(
  control: Control,
  store: Store,
  info: DevInfo,
): Promise<DeviceReport> {
  const record = store.loadIfUsable(info.id);
  const ours = isOurs(record, info) ? record : undefined;
  const pid = serverPid(info);
  const shape = diskShape(info.id) ?? (await shapeFromKernel(control, info));
  return {
    id: info.id,
    path: diskPath(info.id),
    charPath: charPath(info.id),
    state: info.state,
    serverPid: pid > 0 ? pid : null,
    queues: await queueReports(control, info, pid),
    depth: info.depth,
    ...shape,
    ioBufBytes: info.ioBufBytes,
    inFlight: inFlight(info.id),
    flags: flagNames(info.flags),
    flagsHex: `0x${info.flags.toString(16)}`,
    ownerUid: info.ownerUid,
    ownerGid: info.ownerGid,
    recovery: recoveryOf(info.flags),
    ours: ours !== undefined,
    identity: identityText(info.identity),
    target: ours?.target ?? null,
    spec: ours?.spec ?? null,
    filters: ours?.filters ?? [],
    mode: ours?.mode ?? null,
    batch: isBatch(info.flags),
    restarts: ours?.restarts ?? null,
    log: ours?.log ?? null,
  };
}

async function queueReports(control: Control, info: DevInfo, pid: number): Promise<QueueReport[]> {
  const threads = queueThreads(pid, info.id);
  const reports: QueueReport[] = [];
  for (let queueId = 0; queueId < info.queues; queueId++) {
    const bitmap = await control.run(getQueueAffinity, info.id, { queueId });
    reports.push({ threadId: threads.get(queueId) ?? null, cpus: cpusOf(bitmap) });
  }
  return reports;
}

function cpusOf(bitmap: Uint8Array): number[] {
  return [...bitmap].flatMap((byte, i) =>
    [0, 1, 2, 3, 4, 5, 6, 7].filter((bit) => byte & (1 << bit)).map((bit) => i * 8 + bit),
  );
}

/** GET_PARAMS waits for whoever is changing the device: only for one that has no disk to be stuck with. */
async function shapeFromKernel(control: Control, info: DevInfo) {
  if (info.state !== "DEAD") return { sizeBytes: 0, logicalBlockBytes: 0 };
  const params = await control.run(getParams, info.id, undefined);
  return {
    sizeBytes: Number(params.basic_dev_sectors) * 512,
    logicalBlockBytes: 1 << params.basic_logical_bs_shift,
  };
}
