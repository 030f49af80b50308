// A device's ordinary life on a real kernel: added, read, written, discarded, deleted, a hundred times.

import { afterEach, expect, test } from "bun:test";
import { readFileSync } from "node:fs";

import { isBatch } from "../support/batch.ts";
import { amount } from "../support/long.ts";
import { buildKublk } from "../support/peer.ts";
import { leftovers, runOk, TestDevice, ublk, ublkOk, until } from "../support/program.ts";
import type { DeviceReport } from "../support/program.ts";

const kublk = await buildKublk();

afterEach(() => expect(leftovers()).toEqual([]));

const sysfs = (file: string) => readFileSync(`/sys/block/ublkb0/${file}`, "utf8").trim();

test("add returns when the disk can be read; text, JSON, sysfs and kublk agree", async () => {
  const text = await ublkOk("add", "--target", "null", "-n", "0", "-q", "2");
  await using device = new TestDevice(0);
  await runOk("dd", `if=${device.path}`, "of=/dev/null", "bs=4k", "count=1", "iflag=direct");
  expect(await ublkOk("list", "0")).toBe(text);
  const theirs = (await runOk(kublk, "list", "-n", "0")).trimEnd().split("\n");
  const ours = text.trimEnd().split("\n");
  expect(ours.slice(0, 2)).toEqual(theirs.slice(0, 2));
  expect(ours.slice(2, 4)).toEqual(theirs.filter((line) => line.startsWith("\tqueue ")));
  expect(text).toContain("/dev/ublkb0");
  expect(text).toContain("target null");
  expect(text).toContain("recovery reissue restarts 0");

  const report = await device.listed();
  expect(theirs[1]).toContain(`daemon pid ${report.serverPid} `);
  expect(theirs[1]).toEndWith(`state ${report.state}`);
  expect(theirs[1]).toContain(`flags ${report.flagsHex} `);
  expect(theirs[1]).toContain(`max rq size ${report.ioBufBytes} `);
  expect(theirs[0]).toContain(`queue_depth ${report.depth} `);
  expect(report.sizeBytes).toBe(Number(sysfs("size")) * 512);
  expect(report.logicalBlockBytes).toBe(Number(sysfs("queue/logical_block_size")));
  expect(report.path).toBe("/dev/ublkb0");
  expect(report.queues.map(({ threadId }) => threadId)).not.toContain(null);
  expect(new Set(report.queues.flatMap(({ cpus }) => cpus)).size).toBe(report.queues.length);
});

test("fio reads and writes at depth 128 on two queues, and each queue's thread serves", async () => {
  await using device = await TestDevice.add("--target=null", "-n0", "-q2", "-d128");
  const before = await device.ranNs();
  const fio = `fio --name=job --filename=${device.path} --rw=randrw --bs=4k --direct=1
    --ioengine=io_uring --iodepth=128 --size=1g --io_size=16m --numjobs=2 --cpus_allowed=0,1
    --cpus_allowed_policy=split --thread --group_reporting --output-format=json`;
  const text = await runOk(...fio.split(/\s+/));
  const [job] = JSON.parse(text.slice(text.indexOf("{"))).jobs;
  expect(job.error).toBe(0);
  expect(job.total_err ?? 0).toBe(0);
  expect(job.read.total_ios + job.write.total_ios).toBe((2 * 16 * 1024 ** 2) / 4096);
  const after = await device.ranNs();
  // Half of some 8000 requests each: an idle thread runs for microseconds.
  before.forEach((ns, queue) => expect(after[queue]! - ns).toBeGreaterThan(10e6));
  expect((await device.report()).inFlight).toBe(0);
});

/** "0-2,5": 0, 1, 2, 5. */
const cpusOf = (list: string) =>
  list.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, n) => first + n);
  });

test.each([
  isBatch ? ["-q1 -d2", { queues: 1, depth: 2 }] : ["-q1 -d1", { queues: 1, depth: 1 }],
  ["-q2 -d4096", { queues: 2, depth: 4096 }],
  ["--io-buf-size 4KiB", { ioBufBytes: 4096 }],
  ["--io_buf_size=32MiB -d4096 -q2", { queues: 2, depth: 4096, ioBufBytes: 32 * 1024 ** 2 }],
  // The kernel makes no more queues than there are CPUs.
  ["-q32", { queues: navigator.hardwareConcurrency }],
])("add null %s is served on every queue", async (words, expected) => {
  const text = await ublkOk("add", "null", "-n0", "--json", ...words.split(" "));
  await using device = new TestDevice(0);
  const report = JSON.parse(text) as DeviceReport;
  const { depth, ioBufBytes, queues, state } = report;
  expect({ depth, ioBufBytes, queues: queues.length, state }).toMatchObject({
    state: "LIVE",
    ...expected,
  });
  for (const { threadId, cpus } of queues) {
    const status = readFileSync(`/proc/${report.serverPid}/task/${threadId}/status`, "utf8");
    expect(cpusOf(/^Cpus_allowed_list:\s+(\S+)$/m.exec(status)![1]!)).toEqual([...cpus]);
    const dd = ["dd", `if=${device.path}`, "of=/dev/null", "bs=1M", "count=4", "iflag=direct"];
    await runOk("taskset", "-c", String(cpus[0]), ...dd);
  }
  expect(Number(sysfs("queue/max_hw_sectors_kb"))).toBe(ioBufBytes / 1024);
});

test("discards and zeroes are accepted", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const range = ["-o", "1M", "-l", "1M", device.path];
  await runOk("blkdiscard", ...range);
  await runOk("blkdiscard", "-z", ...range);
  await runOk("fallocate", "-z", ...range);
  await runOk("fallocate", "-p", ...range);
  // More than 4 GiB in one go, and the whole disk.
  await runOk("blkdiscard", device.path);
});

test("a device that does not exist is exit 3", async () => {
  const { exitCode, stderr } = await ublk("list", "7");
  expect(stderr).toContain("no such device");
  expect(exitCode).toBe(3);
  expect(await ublkOk("list")).toBe("");
  expect(JSON.parse(await ublkOk("list", "--json"))).toEqual([]);
});

async function addAndDelete(times: number): Promise<void> {
  for (let i = 0; i < times; i++) {
    const { id } = JSON.parse(await ublkOk("add", "null", "--json")) as DeviceReport;
    await ublkOk("del", String(id));
  }
}

test("many times add and del leave nothing", async () => {
  const times = amount({ short: 3, long: 34 });
  await Promise.all([addAndDelete(times), addAndDelete(times), addAndDelete(times)]);
  expect(leftovers()).toEqual([]);
  // The last thread of a process that has ended may be a moment behind it.
  const uses = () => readFileSync("/sys/module/ublk_drv/refcnt", "utf8").trim();
  await until("nobody uses the driver", () => uses() === "0");
}, 900_000);
