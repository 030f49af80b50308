// What add asks of the driver by its options: partition scan, io descriptors, buffers, data modes.

import { afterAll, afterEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { DeviceDetails } from "../../src/device/details.ts";
import {
  hasFeature,
  leftovers,
  runOk,
  TestDevice,
  ublk,
  ublkOk,
  until,
} from "../support/program.ts";

const MIB = 1024 ** 2;
const PARTITION = "/sys/block/ublkb0/ublkb0p1";
const folder = mkdtempSync(join(tmpdir(), "add-flags-"));
const partitioned = join(folder, "partitioned");
writeFileSync(partitioned, diskWithPartition());

afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => expect(leftovers()).toEqual([]));

const readDisk = () =>
  runOk("dd", "if=/dev/ublkb0", "of=/dev/null", "bs=64k", "iflag=direct", "count=4");

/** 4 MiB whose master boot record has one Linux partition, from 1 MiB to 3 MiB. */
function diskWithPartition(): Uint8Array {
  const bytes = new Uint8Array(4 * MIB);
  const view = new DataView(bytes.buffer);
  bytes[446 + 4] = 0x83;
  view.setUint32(446 + 8, 2048, true);
  view.setUint32(446 + 12, 4096, true);
  view.setUint16(510, 0xaa55, true);
  return bytes;
}

async function expectRefused(words: string, exitCode: number, sentence: string): Promise<void> {
  const outcome = await ublk("add", ...words.split(" "));
  expect(outcome.stderr).toContain(sentence);
  expect(outcome.exitCode).toBe(exitCode);
  expect(leftovers()).toEqual([]);
}

test("partitions are found, and with --no-auto-part-scan only when asked for", async () => {
  {
    await using device = await TestDevice.add("loop", "-n0", "-f", partitioned);
    await until("the partition is there", () => existsSync(PARTITION));
    const details = JSON.parse(await ublkOk("info", "0", "--json")) as DeviceDetails;
    expect(details.partitions).toEqual(["/dev/ublkb0p1"]);
    expect(device.id).toBe(0);
  }
  const words = `loop -n0 -f ${partitioned} --no-auto-part-scan`;
  if (!(await hasFeature("NO_AUTO_PART_SCAN"))) {
    return expectRefused(words, 4, "NO_AUTO_PART_SCAN came with Linux 7.0");
  }
  await using device = await TestDevice.add(...words.split(" "));
  await readDisk();
  expect((await device.report()).flags).toContain("NO_AUTO_PART_SCAN");
  expect(existsSync(PARTITION)).toBeFalse();
  await runOk("blockdev", "--rereadpt", device.path);
  await until("the partition is there", () => existsSync(PARTITION));
});

test("larger io descriptors are served, also after a recovery", async () => {
  const words = "loop -n0 -q2 -d64 --io-desc-size=64";
  if (!(await hasFeature("IO_DESC_SIZE"))) {
    return expectRefused(`${words} -f ${partitioned}`, 4, "IO_DESC_SIZE with 7.2");
  }
  await using device = await TestDevice.add(...words.split(" "), "-f", partitioned);
  const expected = { ioDescBytes: 64, depth: 64 };
  for (let round = 0; round < 2; round++) {
    expect(JSON.parse(await ublkOk("info", "0", "--json"))).toMatchObject(expected);
    await runOk("cmp", "-n", String(4 * MIB), device.path, partitioned);
    await device.killServer();
    await ublkOk("recover", "0");
  }
});

test.each([
  ["null --io-desc-size=25", "--io-desc-size 25 is not possible"],
  ["null --io-desc-size=16", "from 24 to 256"],
  ["null --io-desc-size=264", "from 24 to 256"],
  ["null --io-desc-size=big", "from 24 to 256"],
  ["null --max-io-buf-bytes=5000", "write a multiple of 4 KiB"],
  ["null --max-io-buf-bytes=64MiB", "from 4KiB to 32MiB"],
  ["null -g -u", "Two data modes are named: --get-data and --user-copy"],
  ["null -z -u", "Two data modes are named"],
  ["null -z --auto-zc", "Two data modes are named"],
  ["null -u --auto-zc-fallback", "Two data modes are named"],
  ["null -g --copy", "Two data modes are named"],
])("add %s is a usage error, and nothing is created", async (words, sentence) => {
  await expectRefused(words, 2, sentence);
});

test("the largest request is what --max-io-buf-bytes says", async () => {
  await using device = await TestDevice.add("null", "-n0", "--max_io_buf_bytes", "1048576");
  expect(await device.report()).toMatchObject({ ioBufBytes: MIB });
});

test.each([
  ["--copy", "copy", undefined, ""],
  ["-g", "get-data", undefined, ""],
  ["-u", "user-copy", undefined, ""],
  ["-z", "zero-copy", "SUPPORT_ZERO_COPY", "Linux 6.15"],
  ["--auto-zc", "auto-zc", "AUTO_BUF_REG", "Linux 6.16"],
  ["--auto-zc --auto-zc-fallback -z", "auto-zc-fallback", "AUTO_BUF_REG", "Linux 6.16"],
])("add loop %s runs as %s and list shows it, or the kernel is too old", async (...row) => {
  const [words, mode, feature, since] = row;
  const options = `loop -n0 -f ${partitioned} ${words}`;
  if (feature !== undefined && !(await hasFeature(feature))) {
    return expectRefused(options, 4, since);
  }
  await using device = await TestDevice.add(...options.split(" "));
  expect(await device.report()).toMatchObject({ mode });
  expect(await ublkOk("list", "0")).toContain(`\tmode ${mode} `);
  await runOk("cmp", "-n", String(MIB), device.path, partitioned);
  await device.killServer();
  await ublkOk("recover", "0", "--target", "loop", "-f", partitioned);
  expect(await device.report()).toMatchObject({ mode });
  await runOk("cmp", "-n", String(MIB), device.path, partitioned);
});
