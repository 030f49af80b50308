// `ublk-bun watch` as a test uses it: in the background, and what it has caused as events.

import type { DeviceEvent } from "../../src/device/events.ts";
import { type Background, startUblk } from "./crash.ts";
import { ublkOk, until } from "./program.ts";

/** Starts watch and waits until it is at work. */
export async function startWatch(...words: string[]): Promise<Background> {
  const watch = startUblk("watch", ...words);
  await until("watch is at work", () => {
    if (!watch.running) throw new Error(`watch has ended: ${watch.stderr()}`);
    return watch.stderr().includes("watches the disks");
  });
  return watch;
}

/** Ends watch as systemd does; it must end well. */
export async function endWatch(watch: Background): Promise<void> {
  watch.kill("SIGTERM");
  const { exitCode, stderr } = await watch.ended;
  if (exitCode !== 0) throw new Error(`watch ended with ${exitCode}: ${stderr}`);
}

/** The events of one device, since `since`. */
export async function eventsOf(id: number, since = 0): Promise<DeviceEvent[]> {
  const text = await ublkOk("events", String(id), "--since", new Date(since).toISOString());
  return text
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line) as DeviceEvent);
}

export async function untilEvent(name: string, id: number, since: number): Promise<void> {
  await until(`${name} of device ${id}`, async () =>
    (await eventsOf(id, since)).some(({ event }) => event === name),
  );
}
