// stripe on a real kernel: each mode, its layout as others read it, a file system, dead servers.

import { afterAll, afterEach, expect, test } from "bun:test";
import {
  mkdtempSync,
  readFileSync,
  rmdirSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";

import { start, untilInFlight } from "../support/crash.ts";
import { isLong } from "../support/long.ts";
import { expectLayout, membersIn } from "../support/members.ts";
import { leftovers, run, runOk, TestDevice, ublk, ublkOk } from "../support/program.ts";
import { FaultyDevice, LoopDevice, Scratch } from "../support/scratch.ts";
import { writeThousandFiles, wrongFiles } from "../support/thousand-files.ts";
import { torture } from "../support/torture/torture.ts";
import { verifyThroughDeaths } from "../support/torture/verified.ts";
import { verifyMixed } from "../support/verify.ts";

const MIB = 1024 ** 2;
const KIB = 1024;

const scratch = await Scratch.make(["mkfs.ext4", "-q"], 512 * MIB);

afterEach(() => expect(leftovers()).toEqual([]));
afterAll(() => scratch[Symbol.asyncDispose]());

const members = (count: number, sizeBytes: number) => membersIn(scratch, count, sizeBytes);

test("two members and the default chunk, buffered too", async () => {
  for (const words of [[], ["--buffered-io"], ["--chunk-size=512KiB"]]) {
    using two = members(2, 12 * MIB);
    await using device = await TestDevice.add("stripe", "-n0", "-q2", ...words, ...two.words);
    await verifyMixed(device.path);
    const chunkBytes = words[0] === "--chunk-size=512KiB" ? 512 * KIB : 64 * KIB;
    await expectLayout(device.path, two.files, chunkBytes);
  }
});

/** Each is a request of 32 SQEs, one for each member: 32,800 in all, where a ring has 32,768 places. */
const ROWS = 1025;

/** `jobs` times all of the disk, whose server sees none of it before all of it is in flight. */
async function flood(device: TestDevice, rw: "read" | "write", jobs: number): Promise<void> {
  const words = `fio --name=flood --filename=${device.path} --rw=${rw} --bs=128k --numjobs=${jobs}
    --iodepth=${ROWS} --direct=1 --ioengine=libaio --verify=crc32c --do_verify=0 --verify_interval=4k
    --verify_fatal=1 --verify_state_save=0`;
  const pid = await device.serverPid();
  process.kill(pid, "SIGSTOP");
  await using fio = start(...words.split(/\s+/));
  await untilInFlight(device.id, jobs * ROWS);
  process.kill(pid, "SIGCONT");
  expect(await fio.ended).toMatchObject({ exitCode: 0, stderr: "" });
  expect(await device.serverPid()).toBe(pid);
}

// By direct I/O the members answer one by one; through the page cache reads are complete once submitted.
for (const way of isLong ? ["buffered", "direct"] : ["buffered"]) {
  test(`32 members, depth 4096, ${way}: more I/O at once than a ring has places`, async () => {
    using many = members(32, ROWS * 4 * KIB);
    const words = ["--chunk-size=4KiB", "-q1", "-d4096", ...many.words];
    if (way === "buffered") words.push("--buffered-io");
    await using device = await TestDevice.add("stripe", "-n0", ...words);
    // A single queue has a scheduler by default, which gives the driver 256 requests at most.
    writeFileSync("/sys/block/ublkb0/queue/scheduler", "none");
    await flood(device, "write", 1);
    // A ring has 65,536 places for completions.
    await flood(device, "read", 2);
  });
}

test("verified writes go on through kills and recoveries", async () => {
  using four = members(4, 6 * MIB);
  const words = ["-q2", "--chunk-size=16KiB", ...four.words];
  await using device = await TestDevice.add("stripe", "-n0", ...words);
  await verifyThroughDeaths(device, torture(4));
  await expectLayout(device.path, four.files, 16 * KIB);
});

for (const { mkfs, fsck, memberBytes } of [
  { mkfs: ["mkfs.ext4", "-q"], fsck: ["fsck.ext4", "-fn"], memberBytes: 32 * MIB },
  // xfs wants 300 MiB at least.
  { mkfs: ["mkfs.xfs", "-q"], fsck: ["xfs_repair", "-n"], memberBytes: 104 * MIB },
]) {
  test(`${mkfs[0]}: a thousand files are kept over umount, ${fsck[0]}, and a new server`, async () => {
    using three = members(3, memberBytes);
    const folder = mkdtempSync("/tmp/ublk-bun-mounted-");
    await using device = await TestDevice.add("stripe", "-n0", ...three.words);
    const mounted = async (work: () => void) => {
      await runOk("mount", device.path, folder);
      try {
        work();
      } finally {
        await runOk("umount", folder);
      }
    };
    const expectFiles = () => expect(wrongFiles(folder)).toEqual([]);
    await runOk(...mkfs, device.path);
    await mounted(() => writeThousandFiles(folder));
    await runOk(...fsck, device.path);
    await mounted(expectFiles);
    await device.killServer();
    await ublkOk("recover", "0", "--quiet");
    await mounted(expectFiles);
    await runOk(...fsck, device.path);
    rmdirSync(folder);
  });
}

test("block devices of two block sizes: the larger one counts; discards and zeroes reach all", async () => {
  await using one = await LoopDevice.attach(16 * MIB, "--sector-size=4096");
  await using two = await LoopDevice.attach(16 * MIB);
  const words = ["-f", one.path, "-f", two.path];
  await using device = await TestDevice.add("stripe", "-n0", ...words);
  const { logicalBlockBytes, sizeBytes } = await device.report();
  expect({ logicalBlockBytes, sizeBytes }).toEqual({
    logicalBlockBytes: 4096,
    sizeBytes: 32 * MIB,
  });
  const noise = ["if=/dev/urandom", `of=${device.path}`, "bs=1M", "count=32", "oflag=direct"];
  await runOk("dd", ...noise, "status=none");
  const before = readFileSync(device.path);
  // Neither begins nor ends with a chunk.
  const ranges = [
    { from: MIB + 4096, length: 3 * MIB + 8192, words: [] },
    { from: 9 * MIB - 4096, length: 2 * MIB + 4096, words: ["-z"] },
  ];
  for (const { from, length, words: how } of ranges) {
    await runOk("blkdiscard", ...how, "-o", String(from), "-l", String(length), device.path);
    before.fill(0, from, from + length);
  }
  await runOk("blockdev", "--flushbufs", device.path);
  expect(Buffer.compare(readFileSync(device.path), before)).toBe(0);
});

test("discards punch every member", async () => {
  using two = members(2, 8 * MIB);
  await using device = await TestDevice.add("stripe", "-n0", ...two.words);
  const used = () => two.files.map((file) => statSync(file).blocks * 512);
  const noise = ["if=/dev/urandom", `of=${device.path}`, "bs=1M", "count=16", "oflag=direct"];
  await runOk("dd", ...noise, "status=none");
  for (const bytes of used()) expect(bytes).toBeGreaterThanOrEqual(8 * MIB);
  await runOk("blkdiscard", "-o", String(4 * MIB), "-l", String(8 * MIB), device.path);
  for (const bytes of used()) expect(bytes).toBeLessThanOrEqual(4 * MIB + 65536);
});

test("a member that shrinks: EIO where it is missing, data where it is not, the server lives", async () => {
  using two = members(2, 8 * MIB);
  await using device = await TestDevice.add("stripe", "-n0", ...two.words);
  truncateSync(two.files[1]!, MIB);
  const read = (skip: number) =>
    run([
      "dd",
      `if=${device.path}`,
      "of=/dev/null",
      "bs=64k",
      "count=1",
      `skip=${skip}`,
      "iflag=direct",
    ]);
  // Chunks are dealt out in turn: 8 MiB into the disk both have 4 MiB.
  expect((await read(128)).exitCode).toBe(0);
  const failed = await read(129);
  expect(failed.stderr).toContain("Input/output error");
  expect(failed.exitCode).toBe(1);
  expect((await device.report()).state).toBe("LIVE");
});

test("I/O errors below one member: EIO where it is hit, the rest goes on, so does the server", async () => {
  await using one = await LoopDevice.attach(8 * MIB);
  await using two = await LoopDevice.attach(8 * MIB);
  await using faulty = await FaultyDevice.over(two.path, 8 * MIB);
  const words = ["-n0", "-f", one.path, "-f", faulty.path];
  await using device = await TestDevice.add("stripe", ...words);
  const pid = await device.serverPid();
  const dd = async (kib: number, from: number, direction: "read" | "write") => {
    const files =
      direction === "read"
        ? [`if=${device.path}`, "of=/dev/null", `skip=${from}`, "iflag=direct"]
        : ["if=/dev/urandom", `of=${device.path}`, `seek=${from}`, "oflag=direct"];
    const { exitCode, stderr } = await run(["dd", ...files, `bs=${kib}k`, "count=1"]);
    return `${exitCode} ${/Input\/output error/.exec(stderr)?.[0] ?? ""}`;
  };
  for (const direction of ["read", "write"] as const) {
    // Chunks of 64 KiB by turns: from 8 MiB on the odd ones lie in the faulty half of the second member.
    expect(await dd(64, 128, direction)).toBe("0 ");
    expect(await dd(64, 129, direction)).toBe("1 Input/output error");
    expect(await dd(512, 16, direction)).toBe("1 Input/output error");
    expect(await dd(512, 0, direction)).toBe("0 ");
  }
  expect(await device.serverPid()).toBe(pid);
});

test("what makes no stripe is refused, and nothing is left of it", async () => {
  using two = members(2, 8 * MIB);
  const [one = "", other = ""] = two.files;
  const refused = async (...words: string[]) => {
    const { exitCode, stderr } = await ublk("add", "stripe", "-n0", ...words);
    return `${exitCode}: ${stderr}`;
  };
  expect(await refused("-f", one)).toMatch(/^2: .*2 to 32 members, not 1/);
  expect(await refused("-f", one, "-f", one)).toMatch(/^2: .*given twice/);
  expect(await refused("-f", one, "-f", `${other}.gone`)).toMatch(/^1: .*ENOENT/);
  expect(await refused(...two.words, "--chunk-size=3000")).toMatch(/^2: .*power of two/);
  await using device = await TestDevice.add("stripe", "-n0", ...two.words);
  const again = await ublk("add", "loop", "-n1", "-f", other);
  expect(again.stderr).toContain("device 0");
  expect(again.exitCode).toBe(5);
  expect((await device.report()).state).toBe("LIVE");
});
