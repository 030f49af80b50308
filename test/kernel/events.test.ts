// What a device's life looks like as events.

import { afterEach, expect, test } from "bun:test";
import { chownSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

import { hasFeature, leftovers, TestDevice, ublk, ublkOk } from "../support/program.ts";
import { eventsOf, untilEvent } from "../support/watching.ts";

afterEach(() => expect(leftovers()).toEqual([]));

test("added, live, died, recovering, recovered, stopped, deleted: each once, in order", async () => {
  const since = Date.now();
  await using device = await TestDevice.add("null", "-n0");
  const first = await device.serverPid();
  await device.killServer();
  await ublkOk("recover", "0", "--quiet");
  const second = await device.serverPid();
  await ublkOk("stop", "0");
  await ublkOk("del", "0");
  const events = eventsOf(0, since);
  const lines = (await ublkOk("events", "0", "--since", new Date(since).toISOString())).trim();
  expect(lines.split("\n").map((line) => JSON.parse(line))).toEqual(events);
  expect(events.map(({ event, pid }) => [event, pid])).toEqual([
    ["added", null],
    ["live", first],
    ["died", first],
    ["recovering", second],
    ["recovered", second],
    ["stopped", second],
    ["deleted", null],
  ]);
  for (const event of events) expect(event).toMatchObject({ path: device.path, target: "null" });
  // Nobody has noticed when: the pause is only that of the recovery.
  expect(events[2]).toMatchObject({ how: "found dead by recover" });
  expect(events[4]).toMatchObject({ pauseFrom: "start" });
});

test("a server that breaks tells what it dies of", async () => {
  const since = Date.now();
  const spec = "fault_inject -n0 --size=1GiB --fault=exit --fault-at=512MiB".split(" ");
  await using device = await TestDevice.add(...spec);
  const dd = "dd if=/dev/ublkb0 of=/dev/null bs=4k skip=131072 count=1 iflag=direct".split(" ");
  const reader = Bun.spawn(dd, { stdio: ["ignore", "ignore", "ignore"] });
  await device.untilState("QUIESCED");
  await untilEvent("died", 0, since);
  const died = eventsOf(0, since).filter(({ event }) => event === "died");
  expect(died.length).toBe(1);
  expect(died[0]!.how).toContain("queue 0");
  await ublkOk("del", "0", "--force");
  expect(await reader.exited).toBe(1);
});

test("a quiesced device is told, and the mark goes with the next server", async () => {
  if (!(await hasFeature("QUIESCE"))) {
    await using device = await TestDevice.add("null", "-n0");
    const since = Date.now();
    expect((await ublk("quiesce", String(device.id))).exitCode).toBe(4);
    return void expect(eventsOf(0, since)).toEqual([]);
  }
  const since = Date.now();
  await using device = await TestDevice.add("null", "-n0");
  const pid = await device.serverPid();
  await ublkOk("quiesce", "0");
  expect(eventsOf(0, since).at(-1)).toMatchObject({ event: "quiesced", pid });
  expect(readFileSync("/run/ublk-bun/0.rest", "utf8")).toBe((await device.report()).identity);
  await ublkOk("recover", "0", "--quiet");
  expect(() => readFileSync("/run/ublk-bun/0.rest")).toThrow();
});

test("events that cannot be written keep no command from its work", async () => {
  const path = "/run/ublk-bun/events.ndjson";
  mkdirSync("/run/ublk-bun", { recursive: true, mode: 0o700 });
  rmSync(path, { force: true });
  try {
    // Another user's file: nothing of ours may go there.
    writeFileSync(path, "");
    chownSync(path, 65534, 65534);
    await using device = await TestDevice.add("null", "-n0");
    await device.killServer();
    await ublkOk("recover", "0", "--quiet");
    await ublkOk("del", "0");
    expect(readFileSync(path, "utf8")).toBe("");
  } finally {
    rmSync(path);
  }
});
