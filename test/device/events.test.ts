// The event file: appended by many, rotated once, followed across rotations, never in anybody's way.

import { afterEach, beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import {
  appendFileSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { EventLog, EventReader, parseEvents } from "../../src/device/events.ts";
import { noticedDeath, tellRecovered } from "../../src/device/tell.ts";

// Three processes write thousands of lines, which takes its time on a busy machine.
setDefaultTimeout(60_000);

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ublk-events-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

const path = () => join(dir, "events.ndjson");
const all = (log: EventLog) => {
  using reader = new EventReader(log.path, { fromEnd: false });
  return [...log.older(), ...reader.take()];
};

test("an event is one line of JSON, in a file that is its owner's alone", () => {
  new EventLog(dir).add("live", { id: 4, target: "loop", pid: 12 });
  const text = readFileSync(path(), "utf8");
  expect(text).toMatch(/^\{"time":"\d{4}-.*Z","event":"live","id":4,.*\}\n$/);
  expect(JSON.parse(text)).toMatchObject({ path: "/dev/ublkb4", pid: 12, target: "loop" });
  expect(statSync(path()).mode & 0o777).toBe(0o600);
});

test("what cannot be written is not, and nobody fails for it", () => {
  new EventLog(join(dir, "missing")).add("live", { id: 1, target: null });
  expect(existsSync(join(dir, "missing"))).toBeFalse();
  new EventLog("/dev/full").add("live", { id: 1, target: null });
  symlinkSync(join(dir, "elsewhere"), path());
  new EventLog(dir).add("live", { id: 1, target: null });
  expect(existsSync(join(dir, "elsewhere"))).toBeFalse();
});

test("a line that a full disk has cut short does not spoil the next one", () => {
  const log = new EventLog(dir);
  log.add("added", { id: 1, target: null });
  appendFileSync(path(), '{"time":"2026-');
  log.add("live", { id: 1, target: null });
  expect(all(log).map(({ event }) => event)).toEqual(["added", "live"]);
});

test("it is rotated once, and a follower misses nothing and sees nothing twice", () => {
  const log = new EventLog(dir);
  using reader = new EventReader(log.path, { fromEnd: true });
  const seen: number[] = [];
  const count = 6000;
  for (let id = 0; id < count; id++) {
    log.add("died", { id, target: "null", how: "x".repeat(100) });
    if (id % 700 === 0) seen.push(...reader.take().map((event) => event.id));
  }
  seen.push(...reader.take().map((event) => event.id));
  expect(seen).toEqual(Array.from({ length: count }, (_, id) => id));
  const bytes = statSync(path()).size + statSync(`${path()}.1`).size;
  expect(bytes).toBeLessThan(1024 ** 2);
  expect(existsSync(`${path()}.2`)).toBeFalse();
  expect(log.last(count - 1)?.id).toBe(count - 1);
});

test("processes that append and rotate at once lose no line", async () => {
  const module = join(import.meta.dir, "../../src/device/events.ts");
  const perProcess = 1500;
  const script = (id: number) =>
    `import { EventLog } from "${module}"; const log = new EventLog("${dir}");` +
    `for (let i = 0; i < ${perProcess}; i++) ` +
    `log.add("died", { id: ${id}, target: "null", pid: i, how: "y".repeat(60) });`;
  const writers = [1, 2, 3].map((id) => Bun.spawn([process.execPath, "-e", script(id)]));
  for (const writer of writers) expect(await writer.exited).toBe(0);
  const events = all(new EventLog(dir));
  expect(existsSync(`${path()}.1`)).toBeTrue();
  // Of what is kept, every writer's lines are there without a gap, in order.
  for (const id of [1, 2, 3]) {
    const pids = events.filter((event) => event.id === id).map(({ pid }) => Number(pid));
    expect(pids.at(-1)).toBe(perProcess - 1);
    expect(pids).toEqual(pids.map((_, i) => perProcess - pids.length + i));
  }
});

test("a line that is being written is for the next time", () => {
  const log = new EventLog(dir);
  log.add("added", { id: 1, target: null });
  using reader = new EventReader(log.path, { fromEnd: true });
  const line = '{"time":"2026-01-01T00:00:00.000Z","event":"live","id":1,"how":"ü"}\n';
  const bytes = Buffer.from(line);
  const cut = bytes.indexOf(0xc3) + 1;
  appendFileSync(path(), bytes.subarray(0, cut));
  expect(reader.take()).toEqual([]);
  appendFileSync(path(), bytes.subarray(cut));
  expect(reader.take()).toMatchObject([{ event: "live", how: "ü" }]);
});

test("a follower waits for a file that is not there yet", () => {
  using reader = new EventReader(path(), { fromEnd: true });
  expect(reader.take()).toEqual([]);
  new EventLog(dir).add("added", { id: 2, target: null });
  expect(reader.take().map(({ id }) => id)).toEqual([2]);
});

test("lines that are no events are left out", () => {
  expect(parseEvents('null\n7\n{"event":"live"}\n{"event":"live","id":1}\nx\n').length).toBe(1);
});

test("a pause counts from the death that was noticed, else from START", () => {
  const log = new EventLog(dir);
  const about = { id: 1, target: "null" };
  log.add("live", about);
  tellRecovered(log, about, { startedAt: Date.now() - 250, isStandby: false });
  expect(log.last(1)).toMatchObject({ event: "recovered", pauseFrom: "start" });
  expect(log.last(1)!.pauseMs).toBeGreaterThanOrEqual(250);
  log.add("died", { ...about, at: Date.now() - 5000 });
  log.add("recovering", about);
  log.add("died", { id: 2, target: "null" });
  tellRecovered(log, about, { startedAt: Date.now(), isStandby: false });
  expect(log.last(1)).toMatchObject({ event: "recovered", pauseFrom: "death" });
  expect(log.last(1)!.pauseMs).toBeGreaterThanOrEqual(5000);
  expect(noticedDeath(log.recent(1))).toBeUndefined();
});
