// update-size on a real kernel: up and down, under I/O, refused before anything has changed.

import { afterAll, afterEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import {
  type DeviceReport,
  hasFeature,
  leftovers,
  runOk,
  TestDevice,
  ublk,
  ublkOk,
} from "../support/program.ts";

const MIB = 1024 ** 2;
const canResize = await hasFeature("UPDATE_SIZE");
const folder = mkdtempSync(join(tmpdir(), "update-size-"));

afterAll(() => rmSync(folder, { recursive: true }));

afterEach(() => expect(leftovers()).toEqual([]));

const sysfsBytes = () => Number(readFileSync("/sys/block/ublkb0/size", "utf8")) * 512;

/** A process that writes all over the first 16 MiB and reads what it wrote, until it is told to end. */
function busyFio() {
  const words = `fio --name=busy --filename=/dev/ublkb0 --rw=randwrite --bs=4k --iodepth=16 --direct=1
    --ioengine=io_uring --thread --size=16m --time_based --runtime=600 --verify=crc32c
    --verify_backlog=64 --verify_fatal=1 --verify_state_save=0 --output-format=json`;
  const child = Bun.spawn(words.split(/\s+/), { stdio: ["ignore", "pipe", "inherit"] });
  const ended = async () => {
    child.kill("SIGINT");
    const text = await new Response(child.stdout).text();
    await child.exited;
    const [job] = JSON.parse(text.slice(text.indexOf("{"))).jobs;
    return job as { error: number; read: { total_ios: number } };
  };
  return { child, ended, [Symbol.asyncDispose]: async () => child.kill("SIGKILL") };
}

if (!canResize) {
  test("a kernel without UPDATE_SIZE is exit 4, and nothing has changed", async () => {
    await using device = await TestDevice.add("null", "-n0", "--size=64MiB");
    const { exitCode, stderr } = await ublk("update-size", "0", "-s", "128MiB");
    expect(stderr).toContain("This kernel does not have UPDATE_SIZE (it came with Linux 6.16)");
    expect(exitCode).toBe(4);
    expect(await device.report()).toMatchObject({
      sizeBytes: 64 * MIB,
      spec: { sizeBytes: 64 * MIB },
    });
  });
} else {
  test("up and down, in every spelling; the record and a recovery know the new size", async () => {
    await using device = await TestDevice.add("null", "-n0", "--size=64MiB");
    expect(JSON.parse(await ublkOk("update-size", "0", "-s", "96MiB", "--json"))).toEqual({
      id: 0,
      sizeBytes: 96 * MIB,
      previousSizeBytes: 64 * MIB,
    });
    expect(sysfsBytes()).toBe(96 * MIB);
    expect(await ublkOk("update_size", "-n", "0", "--size=32M")).toBe(
      `/dev/ublkb0 has 32 MiB (${32 * MIB} bytes), it had 96 MiB\n`,
    );
    expect(await ublkOk("update-size", "/dev/ublkb0", "32MiB")).toContain("as before");
    expect(await device.report()).toMatchObject({
      sizeBytes: 32 * MIB,
      spec: { sizeBytes: 32 * MIB },
    });
    await device.killServer();
    const { exitCode, stderr } = await ublk("update-size", "0", "64MiB");
    expect(stderr).toMatch(/Device 0 is QUIESCED: .*recover 0/);
    expect(exitCode).toBe(1);
    await ublkOk("recover", "0");
    expect(sysfsBytes()).toBe(32 * MIB);
    await ublkOk("update-size", "0", "64MiB");
    expect(sysfsBytes()).toBe(64 * MIB);
  });

  test("while fio writes and verifies: grows at once; shrinks with --force alone", async () => {
    await using device = await TestDevice.add("mem", "-n0", "--size=64MiB");
    await using fio = busyFio();
    await device.untilBusy();
    await ublkOk("update-size", "0", "128MiB");
    expect(sysfsBytes()).toBe(128 * MIB);
    const { exitCode, stderr } = await ublk("update-size", "0", "32MiB");
    expect(stderr).toContain(`/dev/ublkb0 is in use: open in pid ${fio.child.pid} (fio)`);
    expect(stderr).toContain("--force");
    expect(exitCode).toBe(5);
    expect(sysfsBytes()).toBe(128 * MIB);
    await ublkOk("update-size", "0", "32MiB", "--force");
    expect(sysfsBytes()).toBe(32 * MIB);
    const { error, read } = await fio.ended();
    expect(error).toBe(0);
    expect(read.total_ios).toBeGreaterThan(0);
  });

  test.each([
    [
      ["0", "-s", "1000"],
      2,
      "1000 bytes is not a whole number of 512-byte blocks (the nearest is 1024)",
    ],
    [["0", "-s", "0"], 2, "A disk of 0 bytes is none"],
    [["0", "-s", "99999999P"], 2, "is too large"],
    [["7", "-s", "1M"], 3, "no such device"],
  ])("%p is refused, and nothing has changed", async (words, code, sentence) => {
    await using device = await TestDevice.add("null", "-n0", "--size=64MiB");
    const { exitCode, stderr } = await ublk("update-size", ...words);
    expect(stderr).toContain(sentence);
    expect(exitCode).toBe(code);
    const { sizeBytes, spec } = (await device.report()) as DeviceReport;
    expect({ sizeBytes, spec }).toEqual({ sizeBytes: 64 * MIB, spec: { sizeBytes: 64 * MIB } });
    await runOk("dd", "if=/dev/ublkb0", "of=/dev/null", "bs=4k", "count=1", "iflag=direct");
  });

  test("loop: up to the end of its file and no further; stripe cannot", async () => {
    const file = join(folder, "disk");
    writeFileSync(file, "");
    truncateSync(file, 16 * MIB);
    await using device = await TestDevice.add("loop", "-n0", "-f", file, "--size=8MiB");
    const { exitCode, stderr } = await ublk("update-size", "0", "17MiB");
    expect(stderr).toContain(`${file} has ${16 * MIB} bytes`);
    expect(exitCode).toBe(1);
    expect((await device.report()).sizeBytes).toBe(8 * MIB);
    await ublkOk("update-size", "0", "16MiB");
    await runOk("cmp", device.path, file);
    await device.killServer();
    await ublkOk("recover", "0");
    await runOk("cmp", device.path, file);
    await ublkOk("del", "0");

    const other = join(folder, "other");
    writeFileSync(other, "");
    truncateSync(other, 16 * MIB);
    const stripe = ["stripe", "-n0", "-f", file, "-f", other];
    await using striped = await TestDevice.add(...stripe);
    const refused = await ublk("update-size", "0", "8MiB");
    expect(refused.stderr).toContain("A disk of stripe cannot change its size");
    expect(refused.exitCode).toBe(4);
    expect((await striped.report()).state).toBe("LIVE");
  });

  test("mem: what was there stays, what is new is empty, what is cut off is gone", async () => {
    await using device = await TestDevice.add("mem", "-n0", "--size=4MiB");
    const pattern = join(folder, "pattern");
    writeFileSync(pattern, new Uint8Array(4 * MIB).fill(0x5a));
    await runOk("dd", `if=${pattern}`, `of=${device.path}`, "bs=1M", "oflag=direct");
    await ublkOk("update-size", "0", "8MiB");
    await runOk("cmp", "-n", String(4 * MIB), device.path, pattern);
    await runOk("cmp", "-i", `${4 * MIB}:0`, "-n", String(4 * MIB), device.path, "/dev/zero");
    await ublkOk("update-size", "0", "2MiB");
    await runOk("cmp", "-n", String(2 * MIB), device.path, pattern);
    await device.killServer();
    await ublkOk("recover", "0");
    await runOk("cmp", "-n", String(2 * MIB), device.path, pattern);
  });
}
