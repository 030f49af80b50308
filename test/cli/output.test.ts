// The text of a device begins with the kernel test server's own lines, to the letter.

import { expect, test } from "bun:test";

import { formatDevice } from "../../src/cli/output.ts";
import type { DeviceReport } from "../../src/device/inspect.ts";

const report: DeviceReport = {
  id: 3,
  path: "/dev/ublkb3",
  charPath: "/dev/ublkc3",
  state: "LIVE",
  serverPid: 178,
  queues: [
    { threadId: 180, cpus: [0, 2] },
    { threadId: 181, cpus: [1] },
  ],
  depth: 128,
  sizeBytes: 268435456000,
  logicalBlockBytes: 512,
  ioBufBytes: 524288,
  inFlight: 0,
  flags: ["USER_RECOVERY"],
  flagsHex: "0x4a",
  ownerUid: 0,
  ownerGid: 0,
  recovery: "reissue",
  ours: true,
  identity: "00000000000000ff",
  target: "null",
  mode: "copy",
  batch: false,
  filters: [],
  spec: { sizeBytes: 268435456000 },
  restarts: 2,
  log: "/run/ublk-bun/3.log",
};

test("a live device", () => {
  expect(formatDevice(report).split("\n")).toEqual([
    "dev id 3: nr_hw_queues 2 queue_depth 128 block size 512 dev_capacity 524288000",
    "\tmax rq size 524288 daemon pid 178 flags 0x4a state LIVE",
    "\tqueue 0: affinity(0 2 )",
    "\tqueue 1: affinity(1 )",
    "\tpath /dev/ublkb3 size 250 GiB",
    '\ttarget null {"sizeBytes":268435456000}',
    "\tmode copy recovery reissue restarts 2",
  ]);
});

test("a device that nobody serves, and that another tool made", () => {
  const text = formatDevice({
    ...report,
    state: "QUIESCED",
    serverPid: null,
    ours: false,
    target: null,
    spec: null,
    restarts: null,
  });
  expect(text).toContain("daemon pid -1 flags 0x4a state QUIESCED");
  expect(text).toContain("target unknown");
  expect(text).toContain("restarts unknown");
});

test("scripts find state and pid by column", () => {
  const columns = formatDevice(report).split("\n")[1]!.trim().split(/\s+/);
  expect(columns[6]).toBe("178");
  expect(columns[10]).toBe("LIVE");
});
