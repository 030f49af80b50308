// Records and locks: what must survive a crash, and what must keep two commands apart.

import { afterEach, beforeEach, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { recordText } from "../../src/device/record-text.ts";
import { isResting, markResting, unmarkResting } from "../../src/device/resting.ts";
import { bootId, type DeviceRecord, recordVersion, Store } from "../../src/device/store.ts";

let dir = "";
beforeEach(() => {
  dir = join(mkdtempSync(join(tmpdir(), "ublk-store-")), "run");
});
afterEach(() => rmSync(join(dir, ".."), { recursive: true }));

const record: DeviceRecord = {
  version: 1,
  id: 4,
  identity: "00000000deadbeef",
  bootId: bootId(),
  target: "null",
  spec: { sizeBytes: 4096 },
  queues: 1,
  depth: 128,
  ioDescBytes: 24,
  mode: "copy",
  ioBufBytes: 524288,
  flags: "0x5a",
  recovery: "reissue",
  restarts: 0,
  stallTimeoutMs: 30000,
  liburing: "",
  log: "/run/ublk-bun/4.log",
  program: "/usr/local/bin/ublk-bun",
};

function prepared(): Store {
  const store = new Store(dir);
  store.prepare();
  return store;
}

test("what is saved is loaded, and only its owner can read it", () => {
  const store = prepared();
  store.save(record);
  expect(store.load(4)).toEqual(record);
  expect(store.ids()).toEqual([4]);
  expect(statSync(join(dir, "4.json")).mode & 0o777).toBe(0o600);
  expect(statSync(dir).mode & 0o777).toBe(0o700);
  expect(readdirSync(dir)).toEqual(["4.json"]);
});

test("no record is undefined; remove takes record and logs, and may be repeated", () => {
  const store = prepared();
  expect(store.load(4)).toBeUndefined();
  store.save(record);
  writeFileSync(join(dir, "4.log"), "");
  writeFileSync(join(dir, "4.log.1"), "");
  store.remove(4);
  store.remove(4);
  expect(readdirSync(dir)).toEqual([]);
});

test("a save that died before its rename leaves the old record", () => {
  const store = prepared();
  store.save(record);
  writeFileSync(join(dir, "4.json.999.tmp"), "{");
  writeFileSync(join(dir, "14.json.999.tmp"), "{");
  expect(store.load(4)).toEqual(record);
  expect(store.ids()).toEqual([4]);
  store.remove(4);
  expect(readdirSync(dir)).toEqual(["14.json.999.tmp"]);
});

const damaged: readonly (readonly [what: string, text: string, says: string])[] = [
  ["empty", "", "JSON"],
  ["cut off", recordText(record).slice(0, 80), "JSON"],
  ["of a newer version", recordText({ ...record, version: 3 } as never), "version 3"],
  ["of another device", recordText({ ...record, id: 5 }), "device 5"],
  ["without a field", recordText({ ...record, spec: undefined } as never), '"spec"'],
  ["robbed of its checksum", recordText(record).replace("checksum", "checkqum"), "damaged"],
  ["changed by hand", recordText(record).replace('"depth": 128', '"depth": 129'), "damaged"],
  ["no object", "null", "object"],
];

test("a record with filters is of a version that a program without them refuses", () => {
  const store = prepared();
  const filters = [{ name: "cow", spec: { file: "/srv/over" } }];
  expect([recordVersion({}), recordVersion({ filters: [] })]).toEqual([1, 1]);
  const stacked = { ...record, version: recordVersion({ filters }), filters };
  expect(stacked.version).toBe(2);
  store.save(stacked);
  expect(store.load(stacked.id)).toEqual(stacked);
});

for (const [what, text, says] of damaged) {
  test(`a record that is ${what} is refused with exit 6 and its reason`, () => {
    const store = prepared();
    writeFileSync(join(dir, "4.json"), text);
    let error: unknown;
    try {
      store.load(4);
    } catch (caught) {
      error = caught;
    }
    expect(error).toMatchObject({ exitCode: 6 });
    expect((error as Error).message).toContain(says);
  });
}

test("a record without a checksum, as the first builds wrote it, is read", () => {
  const store = prepared();
  for (const old of [record, { ...record, facts: { file: "/disk" } }]) {
    writeFileSync(join(dir, "4.json"), JSON.stringify(old));
    expect(store.load(4)).toEqual(old);
  }
});

test("every byte of a record may go wrong: it is refused, or says the same", () => {
  const store = prepared();
  const good = Buffer.from(recordText(record));
  for (let at = 0; at < good.length; at++) {
    for (const bit of [0, 2, 5, 7]) {
      const bad = Buffer.from(good);
      bad[at] = bad[at]! ^ (1 << bit);
      writeFileSync(join(dir, "4.json"), bad);
      const loaded = store.loadIfUsable(4);
      if (loaded !== undefined) expect(loaded).toEqual(record);
    }
  }
});

test("a symbolic link is no record, wherever it leads", () => {
  const store = prepared();
  store.save(record);
  renameSync(join(dir, "4.json"), join(dir, "good"));
  symlinkSync("good", join(dir, "4.json"));
  expect(() => store.load(4)).toThrow("symbolic link");
});

test("a device has one lock; the loser hears who holds it and what for", () => {
  const store = prepared();
  {
    using lock = store.lock(4, "recover");
    void lock;
    expect(() => store.lock(4, "del")).toThrow(`pid ${process.pid} (recover)`);
    using other = store.lock(5, "del");
    void other;
  }
  expect(existsSync(join(dir, "4.lock"))).toBe(false);
  using again = store.lock(4, "del");
  void again;
});

test("a link in a lock's place is not followed", () => {
  const store = new Store(dir);
  store.prepare();
  const precious = join(dir, "..", "precious");
  writeFileSync(precious, "as it was");
  symlinkSync(precious, join(dir, "4.lock"));
  expect(() => store.lock(4, "add")).toThrow("ELOOP");
  expect(readFileSync(precious, "utf8")).toBe("as it was");
});

test("a lock that a dead process left behind is no obstacle", () => {
  const store = prepared();
  writeFileSync(join(dir, "4.lock"), "1 recover and more than the next one writes");
  using lock = store.lock(4, "del");
  void lock;
  expect(() => store.lock(4, "stop")).toThrow(`pid ${process.pid} (del)`);
});

test("files are claimed by one after the other, and the lock leaves nothing behind", async () => {
  const store = prepared();
  const first = await store.lockFiles(10);
  const late = await store.lockFiles(10).catch((error: unknown) => error);
  expect(late).toMatchObject({ exitCode: 5 });
  expect((late as Error).message).toContain(`pid ${process.pid} (claim)`);
  const waiting = store.lockFiles(60_000);
  first[Symbol.dispose]();
  (await waiting)[Symbol.dispose]();
  expect(readdirSync(dir)).toEqual([]);
});

test("a run folder that others may write in is not used, nor a record in it", () => {
  const store = prepared();
  store.save(record);
  for (const mode of [0o777, 0o720, 0o702]) {
    chmodSync(dir, mode);
    expect(() => store.prepare()).toThrow("is not safe: others may write in it");
    expect(() => store.load(4)).toThrow("is not safe");
    expect(store.loadIfUsable(4)).toBeUndefined();
  }
  for (const mode of [0o755, 0o1777, 0o700]) {
    chmodSync(dir, mode);
    expect(store.load(4)).toEqual(record);
  }
});

test("a run folder that cannot be made is said so", () => {
  writeFileSync(join(dir, "..", "file"), "");
  expect(() => new Store(join(dir, "..", "file", "run")).prepare()).toThrow(
    "Cannot use the run folder",
  );
});

test("a device that rests on purpose is known by its identity, until it is served or gone", () => {
  const store = prepared();
  expect(isResting(store, record)).toBeFalse();
  markResting(store, record);
  expect(isResting(store, record)).toBeTrue();
  expect(isResting(store, { ...record, identity: "00000000deadbee0" })).toBeFalse();
  unmarkResting(store, 4);
  unmarkResting(store, 4);
  expect(isResting(store, record)).toBeFalse();
  markResting(store, record);
  store.remove(4);
  expect(readdirSync(dir)).toEqual([]);
});

test("whether a device is being changed can be asked without being in the way", () => {
  const store = prepared();
  expect(store.isLocked(4)).toBeFalse();
  {
    using lock = store.lock(4, "stop");
    void lock;
    expect(store.isLocked(4)).toBeTrue();
    expect(store.isLocked(5)).toBeFalse();
  }
  expect(store.isLocked(4)).toBeFalse();
  // What a killed command leaves is a file, not a lock.
  writeFileSync(join(dir, "4.lock"), "1 stop");
  expect(store.isLocked(4)).toBeFalse();
});

test("a run folder has one watch", () => {
  const store = prepared();
  using first = store.lockWatch();
  void first;
  expect(() => store.lockWatch()).toThrow(`watched already, by pid ${process.pid} (watch)`);
});
