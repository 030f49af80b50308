// Opens what a record describes: a ring target here, functions and filters in the threads that serve them.

import { targetOf } from "../filters/stack.ts";
import type { Backing, OpenContext, Spec } from "../target.ts";
import { findTarget } from "../targets/index.ts";
import type { DeviceRecord } from "./store.ts";
import type { Workers } from "./workers.ts";

export interface OpenDiskOptions extends Pick<OpenContext, "isNew" | "isForced" | "note"> {
  /** The record's, or what it is this time. */
  readonly spec: Spec;
  readonly timeoutMs: number;
  readonly liburing: string;
}

/** What cannot be opened leaves nothing behind. */
export async function openDisk(
  record: DeviceRecord,
  workers: Workers,
  { spec, timeoutMs, liburing, ...how }: OpenDiskOptions,
): Promise<Backing> {
  const { id: deviceId, identity, queues, target, filters = [] } = record;
  const base = findTarget(target);
  const context = { deviceId, identity, isNew: how.isNew, queues };
  const isRing = base.hosting?.(spec) === undefined;
  const opened = isRing ? await base.open(spec, { ...context, ...how }) : undefined;
  const hosting = targetOf(record).hosting?.(spec);
  if (hosting === undefined) return opened!;
  const shared = opened && { geometry: opened.geometry, fds: opened.fds, facts: opened.facts };
  const what = { target, spec, filters, base: shared, liburing };
  // What is open besides is the threads', which close it when they go.
  const close = async () => void (await opened?.[Symbol.asyncDispose]());
  try {
    const geometry = await workers.open({ ...what, hosting, context, timeoutMs });
    return { geometry, fds: [], facts: opened?.facts ?? {}, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    if (how.isNew) await base.remove?.(record.spec, record);
    throw error;
  }
}
