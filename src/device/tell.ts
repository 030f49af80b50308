// What a server says of itself as events: that it is live, what it has recovered, what it dies of.

import type { DeviceEvent, EventLog } from "./events.ts";
import type { DeviceRecord } from "./store.ts";

/** When it died, nobody knows. */
const FOUND_DEAD = "found dead by recover";

type Told = Pick<DeviceRecord, "id" | "target">;

/** A new device is there and served, by this process. */
export function tellAdded(events: EventLog, { id, target }: Told): void {
  events.add("added", { id, target });
  events.add("live", { id, target, pid: process.pid });
}

/** This process begins to recover a device. A death that nobody has told of is told first. */
export function tellRecovering(events: EventLog, { id, target }: Told): void {
  const last = events.last(id);
  if (last?.event === "live" || last?.event === "recovered") {
    events.add("died", { id, target, pid: last.pid ?? null, how: FOUND_DEAD });
  }
  events.add("recovering", { id, target, pid: process.pid });
}

/** The device is live again; `startedAt`: when START_USER_RECOVERY was sent. */
export function tellRecovered(
  events: EventLog,
  { id, target }: Told,
  { startedAt, isStandby }: { readonly startedAt: number; readonly isStandby: boolean },
): void {
  const now = Date.now();
  const diedAt = noticedDeath(events.recent(id));
  const pauseMs = Math.max(0, now - (diedAt ?? startedAt));
  const pauseFrom = diedAt === undefined ? "start" : "death";
  const by = isStandby ? { standby: true as const } : {};
  events.add("recovered", { id, target, pid: process.pid, pauseMs, pauseFrom, at: now, ...by });
}

/** This process dies of `how`. */
export function tellDied(events: EventLog, { id, target }: Told, how: string): void {
  events.add("died", { id, target, pid: process.pid, how });
}

/**
 * When the last server died, if somebody has noticed; milliseconds since 1970. `events`: the newest of
 * one device, newest first.
 */
export function noticedDeath(events: Iterable<DeviceEvent>): number | undefined {
  let diedAt: number | undefined;
  for (const { event, time, how } of events) {
    if (event === "live" || event === "recovered") break;
    if (event === "died" && how !== FOUND_DEAD) diedAt = Date.parse(time);
  }
  return diedAt;
}
