// What a server says of itself as events: that it is live, what it has recovered, what it dies of.

import type { DeviceEvent, EventLog } from "./events.ts";
import type { DeviceRecord } from "./store.ts";

type Told = Pick<DeviceRecord, "id" | "target">;

/** A new device is there and served, by this process. */
export function tellAdded(events: EventLog, { id, target }: Told): void {
  events.add("added", { id, target });
  events.add("live", { id, target, pid: process.pid });
}

/** This process begins to recover a device. */
export function tellRecovering(events: EventLog, { id, target }: Told): void {
  events.add("recovering", { id, target, pid: process.pid });
}

/** The device is live again; `startedAt`: when START_USER_RECOVERY was sent. */
export function tellRecovered(events: EventLog, { id, target }: Told, startedAt: number): void {
  const now = Date.now();
  const diedAt = noticedDeath(events.recent(id));
  const pauseMs = Math.max(0, now - (diedAt ?? startedAt));
  const pauseFrom = diedAt === undefined ? "start" : "death";
  events.add("recovered", { id, target, pid: process.pid, pauseMs, pauseFrom, at: now });
}

/** This process dies of `how`. */
export function tellDied(events: EventLog, { id, target }: Told, how: string): void {
  events.add("died", { id, target, pid: process.pid, how });
}

/** When the last server died, if somebody has noticed; milliseconds since 1970. */
export function noticedDeath(events: readonly DeviceEvent[]): number | undefined {
  const served = events.findLastIndex(({ event }) => event === "live" || event === "recovered");
  const died = events.slice(served + 1).find(({ event }) => event === "died");
  return died === undefined ? undefined : Date.parse(died.time);
}
