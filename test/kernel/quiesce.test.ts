// quiesce on a real kernel: the server goes, I/O waits, recover goes on, nothing is lost or wrong.

import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { isBatch } from "../support/batch.ts";
import { changeRecord, daemonPids } from "../support/crash.ts";
import { hasFeature, leftovers, TestDevice, ublk, ublkOk, until } from "../support/program.ts";

const canQuiesce = await hasFeature("QUIESCE");

afterEach(() => expect(leftovers()).toEqual([]));

const folder = mkdtempSync(join(tmpdir(), "quiesce-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** Random writes that are read back and checked on the way, until it is told to end. */
function verifyingFio() {
  const words = `fio --name=job --filename=/dev/ublkb0 --rw=randwrite --bs=4k --iodepth=16 --direct=1
    --ioengine=io_uring --size=8m --verify=crc32c --verify_backlog=64 --verify_fatal=1 --thread
    --time_based --runtime=600 --output-format=json`;
  const child = Bun.spawn(words.split(/\s+/), { stdio: ["ignore", "pipe", "inherit"] });
  return {
    ended: async () => {
      child.kill("SIGINT");
      const text = await new Response(child.stdout).text();
      await child.exited;
      return JSON.parse(text.slice(text.indexOf("{"))).jobs[0] as { error: number };
    },
    [Symbol.asyncDispose]: async () => child.kill("SIGKILL"),
  };
}

/** Reads and writes that the disk has completed. */
function requestsDone(): number {
  const words = readFileSync("/sys/block/ublkb0/stat", "utf8").trim().split(/\s+/);
  return Number(words[0]) + Number(words[4]);
}

if (!canQuiesce) {
  test("a kernel without QUIESCE_DEV is exit 4, and the disk goes on", async () => {
    await using device = await TestDevice.add("null", "-n0");
    const { exitCode, stderr } = await ublk("quiesce", "0");
    expect(stderr).toContain("This kernel does not have QUIESCE_DEV (it came with Linux 6.16)");
    expect(exitCode).toBe(4);
    expect(await device.report()).toMatchObject({ state: "LIVE" });
  });
} else {
  test.each([
    ["reissue", isBatch ? "-q1 -d2" : "-q1 -d1"],
    // With --batch requests would fail: batch.test.ts has that.
    ...(isBatch ? [] : [["queue", "-q2 -d128"] as const]),
  ] as const)(
    "--recovery=%s %s: verified I/O waits, goes on with recover, and none is lost",
    async (recovery, words) => {
      const file = join(folder, "disk");
      writeFileSync(file, "");
      truncateSync(file, 8 * 1024 ** 2);
      const options = ["-n0", "-f", file, `--recovery=${recovery}`, ...words.split(" ")];
      await using device = await TestDevice.add("loop", ...options);
      await using fio = verifyingFio();
      for (let round = 0; round < 3; round++) {
        const before = requestsDone();
        await until("fio gets on", () => requestsDone() > before + 200);
        const { serverPid } = await device.report();
        expect(JSON.parse(await ublkOk("quiesce", "0", "--json"))).toEqual({
          id: 0,
          quiesced: true,
        });
        expect(await device.report()).toMatchObject({ state: "QUIESCED", serverPid: null });
        expect(daemonPids(), "its daemon is gone").not.toContain(serverPid);
        const log = readFileSync("/run/ublk-bun/0.log", "utf8");
        expect(log).toContain(isBatch ? "let go of /dev/ublkb0" : "/dev/ublkb0 was quiesced");
        if (round === 0) expect(await ublkOk("quiesce", "0")).toContain("had no server already");
        await ublkOk("recover", "0");
      }
      expect((await fio.ended()).error).toBe(0);
      expect(await device.report()).toMatchObject({ state: "LIVE", restarts: 3 });
    },
  );

  test("with --recovery=fail it is FAIL_IO", async () => {
    await using device = await TestDevice.add("null", "-n0", "--recovery=fail");
    await ublkOk("quiesce", "0");
    expect(await device.report()).toMatchObject({ state: "FAIL_IO", serverPid: null });
    await ublkOk("recover", "0");
  });

  test("a server that does not answer: 124 says what is in flight and how to go on", async () => {
    // With --batch it goes on serving: batch.test.ts has that.
    if (isBatch) return;
    await using device = await TestDevice.add(
      ..."fault_inject -n0 --size=1GiB --fault=swallow --fault-at=512MiB".split(" "),
    );
    const dd = "dd if=/dev/ublkb0 of=/dev/null bs=4k skip=131072 count=1 iflag=direct";
    const reader = Bun.spawn(dd.split(" "), { stdio: ["ignore", "ignore", "ignore"] });
    await device.untilBusy();
    const pid = await device.serverPid();
    const { exitCode, stderr } = await ublk("quiesce", "0", "--timeout=500ms");
    expect(stderr).toContain(`1 request in flight, its server is pid ${pid} (ublk-bun)`);
    expect(stderr).toContain(`kill -9 ${pid}; ublk-bun recover 0`);
    expect(exitCode).toBe(124);
    await device.killServer();
    // The hint is true: a server that answers ends the wait.
    changeRecord(0, (record) => ({ ...record, spec: { ...record.spec, fault: "eio" } }));
    await ublkOk("recover", "0");
    expect(await reader.exited).toBe(1);
  });

  test("no recovery, stopped, or not there: refused, and nothing has changed", async () => {
    await using device = await TestDevice.add("null", "-n0", "--recovery=none");
    const live = await ublk("quiesce", "0");
    expect(live.stderr).toContain("Device 0 was added without recovery");
    expect(live.exitCode).toBe(6);
    expect(await device.report()).toMatchObject({ state: "LIVE" });
    expect((await ublk("quiesce", "7")).exitCode).toBe(3);
    await using stopped = await TestDevice.add("null", "-n1");
    await ublkOk("stop", "1");
    const dead = await ublk("quiesce", String(stopped.id));
    expect(dead.stderr).toContain("Device 1 is DEAD");
    expect(dead.exitCode).toBe(6);
  });
}
