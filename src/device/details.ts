// info and list -v: everything that kernel, sysfs, /proc and the record know of one device.

import { readFileSync } from "../builtin.ts";
import type { DevInfo } from "../control/commands/dev-info.ts";
import type { Control } from "../control/control.ts";
import { UblkError } from "../errors.ts";
import { targetOf } from "../filters/stack.ts";
import type { Spec } from "../target.ts";
import { diskAndPartitions } from "./disk.ts";
import { type AskOptions, askParams, isBeingChanged } from "./helper.ts";
import { charHolders, diskHolders, namedProcess } from "./holders.ts";
import { isOurs } from "./identity.ts";
import { type DeviceReport, inspect } from "./inspect.ts";
import { type ParamReport, reportParams } from "./param-report.ts";
import { peek } from "./processes.ts";
import { standbysOf } from "./standby-processes.ts";
import type { DeviceRecord, Store } from "./store.ts";

/** A device that does not answer by then is stuck: the rest is worth telling without its parameters. */
const PARAMS_MS_MAX = 10_000;

/** What `info --json` prints: a DeviceReport and more. Fields are added, never renamed or removed. */
export interface DeviceDetails extends DeviceReport {
  /** "major:minor"; of the disk null while there is none. */
  readonly charNumber: string | null;
  readonly diskNumber: string | null;
  readonly partitions: readonly string[];
  readonly ioDescBytes: number;
  /** null: somebody is stuck with the device, and the kernel cannot be asked. */
  readonly params: ParamReport | null;
  /** Who has the disk open, mounted or under another device, in words. */
  readonly diskHolders: readonly string[];
  /** Who has the char device open: its server, in words. */
  readonly charHolders: readonly string[];
  /** The process that `watch --standby` keeps ready; null: there is none. */
  readonly standbyPid: number | null;
  readonly record: {
    readonly path: string;
    /** "another": of an earlier device with the same id. */
    readonly state: "ours" | "another" | "damaged" | "missing";
  };
  /** From the record: null where it is not ours. */
  readonly recorded: RecordedDetails | null;
}

export interface RecordedDetails {
  readonly bootId: string;
  readonly program: string;
  readonly stallTimeoutMs: number;
  /** "" for the built-in one. */
  readonly liburing: string;
  /** The files that the target uses. */
  readonly files: readonly string[];
  /** What the target found out when it was last opened. */
  readonly facts: Spec;
}

/** Reports everything on one device, and changes nothing. */
export async function inspectDetails(
  control: Control,
  store: Store,
  info: DevInfo,
  options: AskOptions,
): Promise<DeviceDetails> {
  const { id } = info;
  const record = store.loadIfUsable(id);
  const ours = isOurs(record, info) ? record : undefined;
  const [disk, ...partitions] = diskAndPartitions(id);
  const damaged = store.has(id) ? "damaged" : "missing";
  return {
    ...(await inspect(control, store, info)),
    charNumber: charNumber(id),
    diskNumber: disk?.numbers ?? null,
    partitions: partitions.map(({ name }) => `/dev/${name}`),
    ioDescBytes: info.ioDescBytes,
    params: await safeParams(id, options),
    diskHolders: diskHolders(id),
    charHolders: charHolders(id).map(namedProcess),
    standbyPid: standbysOf(id, store.dir)[0] ?? null,
    record: {
      path: store.recordPath(id),
      state: ours ? "ours" : record ? "another" : damaged,
    },
    recorded: ours ? recordedDetails(ours) : null,
  };
}

function recordedDetails(record: DeviceRecord): RecordedDetails {
  const { bootId, program, stallTimeoutMs, liburing, spec, facts } = record;
  const files = peek(() => targetOf(record).files?.(spec)) ?? [];
  return { bootId, program, stallTimeoutMs, liburing, files, facts: facts ?? {} };
}

function charNumber(id: number): string | null {
  return peek(() => readFileSync(`/sys/class/ublk-char/ublkc${id}/dev`, "utf8").trim()) ?? null;
}

/**
 * GET_PARAMS waits for whoever is changing the device, for ever when that one is stuck, and cannot be
 * cancelled then: a helper asks, and nobody does while one of ours is stuck there already.
 */
async function safeParams(id: number, { timeoutMs, liburing }: AskOptions) {
  if (isBeingChanged(id)) return null;
  try {
    const params = await askParams(id, {
      timeoutMs: Math.min(timeoutMs, PARAMS_MS_MAX),
      liburing,
    });
    return reportParams(params);
  } catch (error) {
    if (error instanceof UblkError) return null;
    throw error;
  }
}
