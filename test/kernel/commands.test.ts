// Commands on a real kernel when things are in the way: ids taken, disks open, people impatient.

import { afterEach, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";

import { amount } from "../support/long.ts";
import { leftovers, program, runOk, TestDevice, ublk, ublkOk } from "../support/program.ts";

afterEach(() => expect(leftovers()).toEqual([]));

const readDisk = () =>
  runOk("dd", "if=/dev/ublkb0", "of=/dev/null", "bs=4k", "iflag=direct", "count=1");

/** A process that holds the disk open, in a mount namespace of its own where asked. */
function openDisk({ elsewhere = false } = {}) {
  const words = [...(elsewhere ? ["unshare", "-m"] : []), "sleep", "1000"];
  const child = Bun.spawn(words, { stdio: [Bun.file("/dev/ublkb0"), null, null] });
  return {
    pid: child.pid,
    [Symbol.asyncDispose]: async () => {
      child.kill();
      await child.exited;
    },
  };
}

test("two adds of one id at once: one wins, the other says that the id is taken", async () => {
  const both = await Promise.all([ublk("add", "null", "-n0"), ublk("add", "null", "-n0")]);
  await using device = new TestDevice(0);
  const [winner, loser] = both.toSorted((a, b) => a.exitCode - b.exitCode);
  expect(winner!.exitCode).toBe(0);
  expect(loser!.stderr).toContain("the id is taken");
  expect(loser!.exitCode).toBe(5);
  const later = await ublk("add", "null", "-n0");
  expect(later.stderr).toContain("the id is taken");
  expect(later.exitCode).toBe(5);
  expect(await device.report()).toMatchObject({ state: "LIVE", ours: true });
  await readDisk();
  expect(readdirSync("/run/ublk-bun").toSorted()).toEqual([
    "0.json",
    "0.log",
    "0.sock",
    "events.ndjson",
  ]);
});

test("an interrupted add leaves a served device or none, whenever the signal comes", async () => {
  const { milliseconds } = await ublk("add", "null", "-n0");
  await ublkOk("del", "0");
  const moments = amount({ short: 8, long: 16 });
  const outcomes = { served: 0, none: 0 };
  for (let i = 0; i < moments; i++) {
    const child = Bun.spawn([program, "add", "null", "-n0"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    await Bun.sleep((milliseconds * 1.1 * i) / (moments - 1));
    child.kill(i % 2 === 0 ? "SIGINT" : "SIGTERM");
    // An impatient person presses it twice.
    if (i % 4 > 1) child.kill("SIGINT");
    const exitCode = await child.exited;
    const isServed = existsSync("/sys/class/ublk-char/ublkc0");
    outcomes[isServed ? "served" : "none"]++;
    if (isServed) {
      await readDisk();
      const [report] = JSON.parse(await ublkOk("list", "--json"));
      expect(report).toMatchObject({ id: 0, state: "LIVE", ours: true, target: "null" });
      expect(readdirSync("/run/ublk-bun").toSorted()).toEqual([
        "0.json",
        "0.log",
        "0.sock",
        "events.ndjson",
      ]);
      await ublkOk("del", "0");
    } else {
      expect(exitCode, "an add that leaves nothing has not succeeded").not.toBe(0);
    }
    expect(leftovers(), `after signal ${i} of ${moments}`).toEqual([]);
  }
  expect(outcomes.none).toBeGreaterThan(0);
});

test("an open disk is not stopped or deleted, and its holder is named", async () => {
  await using device = await TestDevice.add("null", "-n0");
  for (const elsewhere of [false, true]) {
    await using holder = openDisk({ elsewhere });
    for (const verb of ["stop", "del"]) {
      const { exitCode, stderr } = await ublk(verb, "0");
      expect(stderr).toContain(`/dev/ublkb0 is in use: open in pid ${holder.pid} (sleep)`);
      expect(stderr).toContain("--force");
      expect(exitCode).toBe(5);
    }
    expect(await device.report()).toMatchObject({ state: "LIVE" });
    await readDisk();
  }
  await using holder = openDisk();
  void holder;
  await ublkOk("stop", "0", "--force");
  expect(await device.report()).toMatchObject({ state: "DEAD", serverPid: null });
});

test("del --force deletes an open disk", async () => {
  await TestDevice.add("null", "-n0");
  await using holder = openDisk();
  void holder;
  await ublkOk("del", "0", "--force");
  expect(leftovers()).toEqual([]);
});

test("stop, stop again, and del of the stopped", async () => {
  await using device = await TestDevice.add("null", "-n0");
  expect(JSON.parse(await ublkOk("stop", "0", "--json"))).toEqual({ id: 0, stopped: true });
  expect(await device.report()).toMatchObject({ state: "DEAD", serverPid: null, ours: true });
  expect(existsSync(device.path)).toBeFalse();
  expect(JSON.parse(await ublkOk("stop", "-n", "0", "--json"))).toEqual({ id: 0, stopped: false });
  expect(await ublkOk("stop", "0")).toBe("device 0 was stopped already\n");
  expect(JSON.parse(await ublkOk("del", "/dev/ublkb0", "--json"))).toEqual({
    id: 0,
    deleted: true,
  });
  expect(leftovers()).toEqual([]);
  for (const verb of ["stop", "del"]) expect((await ublk(verb, "0")).exitCode).toBe(3);
});

test("a device whose server was killed can be deleted as it is", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await device.killServer();
  await device.untilState("QUIESCED");
  await ublkOk("del", "0");
  expect(leftovers()).toEqual([]);
});

test("JSON has the documented fields", async () => {
  await using device = await TestDevice.add("null", "-n0", "--size=1GiB", "--recovery=queue");
  const listed = await device.listed();
  expect(await device.report()).toEqual(listed);
  expect(listed).toEqual({
    id: 0,
    path: "/dev/ublkb0",
    charPath: "/dev/ublkc0",
    state: "LIVE",
    serverPid: expect.any(Number),
    queues: [{ threadId: expect.any(Number), cpus: expect.any(Array) }],
    depth: 128,
    sizeBytes: 1024 ** 3,
    logicalBlockBytes: 512,
    ioBufBytes: 512 * 1024,
    inFlight: 0,
    flags: expect.arrayContaining(["USER_RECOVERY"]),
    flagsHex: expect.stringMatching(/^0x[0-9a-f]+$/),
    ownerUid: 0,
    ownerGid: 0,
    recovery: "queue",
    ours: true,
    identity: expect.stringMatching(/^[0-9a-f]{16}$/),
    target: "null",
    spec: { sizeBytes: 1024 ** 3 },
    filters: [],
    mode: "copy",
    batch: false,
    restarts: 0,
    log: "/run/ublk-bun/0.log",
  });
  const features = JSON.parse(await ublkOk("features", "--json"));
  expect(features).toEqual({
    features: expect.stringMatching(/^0x[0-9a-f]+$/),
    names: expect.arrayContaining(["USER_RECOVERY", "USER_RECOVERY_REISSUE"]),
  });
});

test.each([
  ["add null --sise 1G", "did you mean --size?"],
  ["add nul", 'Unknown target "nul"'],
  ["add", "Which target?"],
  ["add null --queues", "--queues needs a value"],
  ["add null -q0", "from 1 to 32"],
  ["add null --depth=4097", "from 1 to 4096"],
  ["list 0 -n 1", "Two devices are named"],
  ["del", "Which device?"],
  ["recovr 0", "did you mean recover?"],
])("ublk-bun %s is a usage error", async (line, sentence) => {
  const { exitCode, stderr, stdout } = await ublk(...line.split(" "));
  expect(stderr).toContain(sentence);
  expect(stderr.trim().split("\n")).toHaveLength(1);
  expect(stdout).toBe("");
  expect(exitCode).toBe(2);
});
