// info and list -v on a real kernel: every parameter by name, who holds what, and no hanging.

import { afterEach, expect, test } from "bun:test";

import type { DeviceDetails } from "../../src/device/details.ts";
import { leftovers, TestDevice, ublk, ublkOk, until } from "../support/program.ts";

afterEach(() => expect(leftovers()).toEqual([]));

const info = async () => JSON.parse(await ublkOk("info", "0", "--json")) as DeviceDetails;

test("info --json has the documented fields", async () => {
  await using device = await TestDevice.add(
    ..."null -n0 --size=1GiB --io-buf-size=1MiB".split(" "),
  );
  const details = await info();
  const { serverPid } = details;
  expect(details).toEqual({
    ...(await device.report()),
    charNumber: expect.stringMatching(/^\d+:\d+$/),
    diskNumber: expect.stringMatching(/^\d+:\d+$/),
    partitions: [],
    ioDescBytes: 24,
    params: {
      basic: {
        attributes: [],
        logicalBlockBytes: 512,
        physicalBlockBytes: 4096,
        minIoBytes: 512,
        optimalIoBytes: 4096,
        maxIoBytes: 1024 ** 2,
        chunkBytes: 0,
        sizeBytes: 1024 ** 3,
        virtualBoundaryMask: "0x0",
      },
      discard: {
        alignmentBytes: 0,
        granularityBytes: 512,
        maxDiscardBytes: expect.any(Number),
        maxWriteZeroesBytes: expect.any(Number),
        maxDiscardSegments: 1,
      },
      zoned: null,
      dmaAlignmentBytes: null,
      segments: null,
      integrity: null,
    },
    diskHolders: [],
    charHolders: [`pid ${serverPid} (ublk-bun)`],
    standbyPid: null,
    record: { path: "/run/ublk-bun/0.json", state: "ours" },
    recorded: {
      bootId: expect.stringMatching(/^[0-9a-f-]{36}$/),
      program: expect.stringContaining("ublk-bun"),
      stallTimeoutMs: 30_000,
      liburing: "",
      files: [],
      facts: {},
    },
  });
  expect(JSON.parse(await ublkOk("list", "-v", "--json"))).toEqual([details]);
});

test("as text: list's lines first, then a topic a line; list -n 0 -v is the same", async () => {
  await using device = await TestDevice.add("null", "-n0", "-q2");
  const holder = Bun.spawn(["sleep", "1000"], { stdio: [Bun.file(device.path), null, null] });
  const text = await ublkOk("info", "0");
  expect(text).toStartWith(await ublkOk("list", "0"));
  expect(text).toContain(`disk used by: open in pid ${holder.pid} (sleep)`);
  expect(text).toContain("params basic: attributes none, logicalBlockBytes 512, ");
  expect(text).toContain("params zoned: not set");
  expect(text).toContain("record: /run/ublk-bun/0.json (ours)");
  expect(await ublkOk("list", "-n", "0", "-v")).toBe(text);
  holder.kill();
  await holder.exited;
});

test("a stopped device still has its parameters; one without record says so", async () => {
  await using device = await TestDevice.add("null", "-n0", "--size=1GiB");
  await ublkOk("stop", "0");
  expect(await info()).toMatchObject({
    state: "DEAD",
    diskNumber: null,
    charHolders: [],
    params: { basic: { sizeBytes: 1024 ** 3 } },
  });
  const [other] = JSON.parse(await ublkOk("list", "-v", "--json", "--run-dir=/run/elsewhere"));
  expect(other).toMatchObject({ ours: false, record: { state: "missing" }, recorded: null });
  expect(device.id).toBe(0);
});

test("with a device that somebody is stuck with, info tells the rest in time", async () => {
  await using device = await TestDevice.add(
    ..."fault_inject -n0 --size=1GiB --fault=swallow --fault-at=512MiB".split(" "),
  );
  const dd = "dd if=/dev/ublkb0 of=/dev/null bs=4k skip=131072 count=1 iflag=direct";
  const reader = Bun.spawn(dd.split(" "), { stdio: ["ignore", "ignore", "ignore"] });
  await device.untilBusy();
  const stop = await ublk("stop", "0", "--force", "--timeout=1s");
  expect(stop.exitCode).toBe(124);
  const details = await info();
  expect(details.params).toBeNull();
  expect(details.charHolders).toHaveLength(1);
  expect(await ublkOk("info", "0")).toContain("params: unknown");
  process.kill(await device.serverPid(), "SIGKILL");
  await reader.exited;
  await until("the stop has ended", async () => (await device.report()).state === "DEAD");
});
