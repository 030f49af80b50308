// How a recovery is claimed: in whose name its device is locked, and what is said while somebody else is at it.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";

import type { DevInfo } from "../../src/control/commands/dev-info.ts";
import type { Control } from "../../src/control/control.ts";
import { identityText, newIdentity } from "../../src/device/identity.ts";
import type { RecoverJob } from "../../src/device/job.ts";
import { type Claimed, claimRecovery } from "../../src/device/recoverable.ts";
import { RECOVERY_FLAGS } from "../../src/device/recovery.ts";
import { bootId, type DeviceRecord, Store } from "../../src/device/store.ts";
import { EXIT } from "../../src/errors.ts";

const identity = newIdentity();
const shape = { queues: 1, depth: 128, ioBufBytes: 524_288, ioDescBytes: 24 };
const info: DevInfo = {
  id: 5,
  ...shape,
  state: "QUIESCED",
  serverPid: -1,
  flags: RECOVERY_FLAGS.reissue,
  identity,
  ownerUid: 0,
  ownerGid: 0,
};
const record: DeviceRecord = {
  version: 1,
  id: 5,
  identity: identityText(identity),
  bootId: bootId(),
  target: "null",
  spec: { sizeBytes: 2 ** 30 },
  ...shape,
  mode: "copy",
  flags: `0x${info.flags.toString(16)}`,
  recovery: "reissue",
  restarts: 0,
  stallTimeoutMs: 30_000,
  liburing: "",
  log: "/run/5.log",
  program: "/ublk-bun",
};

let store: Store;
beforeEach(() => {
  store = new Store(mkdtempSync("/tmp/recoverable-"));
});
afterEach(() => rmSync(store.dir, { recursive: true }));

const lockText = () => readFileSync(`${store.dir}/5.lock`, "utf8");

function claim(state: DevInfo["state"], more: Partial<RecoverJob> = {}): Promise<Claimed> {
  const control = { run: async () => ({ ...info, state }) } as unknown as Control;
  const common = { runDir: store.dir, timeoutMs: 1000, liburing: "", force: false, log: "" };
  const job = { ...common, verb: "recover", role: "recover", id: 5, once: {}, wish: {} } as const;
  const how = { control, store, note: () => {} };
  return claimRecovery({ ...job, locked: false, ownNamespace: false, ...more }, how);
}

test("the lock is in the name of the command, and in its own when that is gone", async () => {
  store.save(record);
  const [launched, orphaned] = [{ launcherPid: process.ppid }, { launcherPid: process.ppid + 1 }];
  for (const [job, pid] of [
    [launched, process.ppid],
    [orphaned, process.pid],
  ] as const) {
    const claimed = await claim("QUIESCED", job);
    expect(lockText()).toBe(`${pid} recover`);
    expect(claimed).toMatchObject({ record, isChanged: false });
    claimed.lock[Symbol.dispose]();
  }
});

test("DEAD is a stopped disk, or one that is just being added: then somebody is at it", async () => {
  store.save(record);
  await expect(claim("DEAD")).rejects.toMatchObject({ exitCode: EXIT.notRecoverable });
  using lock = store.lock(5, "add");
  void lock;
  await expect(claim("DEAD")).rejects.toMatchObject({
    exitCode: EXIT.busy,
    message: `Device 5 is being changed by pid ${process.pid} (add)`,
  });
});

test("a record made of another one than there is by now is not served by", async () => {
  store.save(record);
  const renewed = { ...record, spec: { ...record.spec, sources: ["new"] } };
  const claimed = await claim("QUIESCED", { record: renewed });
  expect(claimed).toMatchObject({ record: renewed, isChanged: true });
  claimed.lock[Symbol.dispose]();
  store.save({ ...record, restarts: 1 });
  await expect(claim("QUIESCED", { record: renewed })).rejects.toMatchObject({
    exitCode: EXIT.busy,
  });
  expect(store.isLocked(5)).toBeFalse();
});
