// A disk whose code is a file, served by the compiled executable from another folder.

import { afterEach, expect, test } from "bun:test";
import { copyFileSync, mkdirSync, readFileSync, rmSync } from "node:fs";

import { ddWords, readBlock } from "../support/crash.ts";
import { leftovers, repository, runOk, ublkOk, until } from "../support/program.ts";
import { sparseFile } from "../support/sparse-file.ts";
import { torture } from "../support/torture/torture.ts";
import { verifyThroughDeaths } from "../support/torture/verified.ts";
import { UserFolder } from "../support/user-target.ts";
import { verifyMixed } from "../support/verify.ts";

const MEMORY = "/dev/shm/script-test";
const log = () => readFileSync("/run/ublk-bun/0.log", "utf8");

afterEach(() => {
  rmSync(MEMORY, { force: true });
  expect(leftovers()).toEqual([]);
});

test("memory.ts: ext4 is made, filled and checked; the server is killed while it is mounted", async () => {
  using user = new UserFolder();
  copyFileSync(`${repository}/examples/memory.ts`, `${user.path}/memory.ts`);
  const words = ["--param", `path=${MEMORY}`, "--param=size=64MiB", "-q2"];
  await using device = await user.add("--target", "./memory.ts", ...words);
  const report = await device.report();
  expect(report.target).toBe(`${user.path}/memory.ts`);
  const folder = `${user.path}/mnt`;
  mkdirSync(folder);
  await runOk("mkfs.ext4", "-q", device.path);
  await runOk("mount", device.path, folder);
  try {
    await runOk("dd", "if=/dev/urandom", `of=${folder}/a`, "bs=1M", "count=16", "status=none");
    await runOk("sync", "-f", folder);
    const before = await runOk("sha256sum", `${folder}/a`);
    await device.killServer();
    const copy = runOk("cp", `${folder}/a`, `${folder}/b`).then(() => runOk("sync", "-f", folder));
    await ublkOk("recover", "0", "--quiet");
    await copy;
    await runOk("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches");
    expect(await runOk("sha256sum", `${folder}/a`)).toBe(before);
    await runOk("cmp", `${folder}/a`, `${folder}/b`);
  } finally {
    await runOk("umount", folder);
  }
  await runOk("e2fsck", "-fn", device.path);
});

test("memory.ts: its server dies under verified I/O, again and again", async () => {
  using user = new UserFolder();
  // One queue: a second would have no thread of its own to be killed.
  const words = ["--param", `path=${MEMORY}`, "--param=size=16MiB", "-q1"];
  await using device = await user.add("--target", `${repository}/examples/memory.ts`, ...words);
  await verifyThroughDeaths(device, torture(3));
});

test.each(["--user-copy", "--get-data"])(
  "one instance serves three queues %s: verified I/O of all sizes, what it has is advertised",
  async (mode) => {
    using user = new UserFolder();
    user.target("disk.ts", "flush() {}, discard() {}, writeZeroes() {},");
    await using device = await user.add("./disk.ts", "-q3", "-d32", mode);
    await verifyMixed(device.path);
    const queue = (file: string) => readFileSync(`/sys/block/ublkb0/queue/${file}`, "utf8").trim();
    expect(queue("write_cache")).toBe("write back");
    // write takes two parameters: it does not hear of FUA.
    expect(queue("fua")).toBe("0");
    expect(queue("discard_max_bytes")).toBe(String(1024 ** 3));
    expect(queue("write_zeroes_max_bytes")).toBe(String(1024 ** 3));
  },
);

test("perQueue: verified I/O through two threads, a kill, an upgrade; the file has it all", async () => {
  using user = new UserFolder();
  const file = sparseFile(`${user.path}/blocks`, 24 << 20);
  user.write(
    "disk.ts",
    `import { fsyncSync, openSync, readSync, writeSync } from "node:fs";
import { defineTarget } from "ublk-bun";
export default defineTarget({
  perQueue: true,
  open() {
    const fd = openSync(${JSON.stringify(file)}, "r+");
    return {
      sizeBytes: 24 << 20,
      read: (offset, into) => readSync(fd, into, 0, into.length, offset),
      write: (offset, from) => writeSync(fd, from, 0, from.length, offset),
      flush: () => fsyncSync(fd),
    };
  },
});
`,
  );
  await using device = await user.add("./disk.ts", "-n0", "-q2");
  const before = await device.ranNs();
  expect(before).toHaveLength(2);
  await verifyMixed(device.path);
  for (const [queue, ns] of (await device.ranNs()).entries()) {
    expect(ns).toBeGreaterThan(before[queue]!);
  }
  const same = async () => {
    await runOk("blockdev", "--flushbufs", device.path);
    await runOk("cmp", device.path, file);
  };
  await device.killServer();
  await ublkOk("recover", "0", "--quiet");
  await same();
  await ublkOk("upgrade", "0");
  await same();
});

test("with perQueue a flush reaches every instance, and waits for the slowest", async () => {
  using user = new UserFolder();
  const top = `import { appendFileSync } from "node:fs";
    const log = ${JSON.stringify(`${user.path}/flushed`)};`;
  user.write(
    "disk.ts",
    `import { defineTarget } from "ublk-bun";
${top}
export default defineTarget({
  perQueue: true,
  open: (_, { queueId }) => ({
    sizeBytes: 8 << 20,
    read(_, into) { into.fill(0); },
    write() {},
    async flush() { await Bun.sleep(queueId * 500); appendFileSync(log, queueId + "\\n"); },
  }),
});
`,
  );
  await using device = await user.add("./disk.ts", "-q2");
  const all = (await device.report()).queues.map((_, id) => String(id));
  // Through each queue, one of which has the slow instance itself.
  for (const cpu of ["0", "1"]) {
    rmSync(`${user.path}/flushed`, { force: true });
    const words = ["if=/dev/zero", `of=${device.path}`, "bs=4k", "count=1", "oflag=direct"];
    await runOk("taskset", "-c", cpu, "dd", ...words, "conv=fsync", "status=none");
    // When dd has its answer all have flushed.
    const flushed = readFileSync(`${user.path}/flushed`, "utf8").trim().split("\n");
    expect([...new Set(flushed)].toSorted()).toEqual(all);
  }
});

test("errnos reach the application, and the log says where", async () => {
  using user = new UserFolder();
  user.target(
    "disk.ts",
    `async write(offset: number) {
      await Bun.sleep(1);
      if (offset === 4096) throw new BlockError("ENOSPC");
      throw new Error("plain");
    },
    read(offset: number, into: Uint8Array) { return offset === 4096 ? 100 : void into.fill(0); },`,
  );
  await using device = await user.add("./disk.ts", "-n0");
  const write = (block: number) =>
    runOk(
      "dd",
      "if=/dev/zero",
      `of=${device.path}`,
      "bs=4k",
      "count=1",
      `seek=${block}`,
      "oflag=direct",
      "status=none",
    );
  await expect(write(1)).rejects.toThrow("No space left on device");
  await expect(write(2)).rejects.toThrow("Input/output error");
  await until("both are in the log", () => /ENOSPC[^]*EIO|EIO[^]*ENOSPC/.test(log()));
  expect(log()).toMatch(
    /disk\.ts:11:\d+: write of 4096 bytes at 4096 failed: ENOSPC; answered ENOSPC/,
  );
  expect(log()).toMatch(/disk\.ts:12:\d+: write of 4096 bytes at 8192 failed: plain; answered EIO/);
  await expect(readBlock(device.path, 1)).rejects.toThrow("Input/output error");
  await until("it is in the log", () => log().includes("returned 100"));
  expect(log()).toMatch(/disk\.ts:\d+: read of 4096 bytes at 4096 returned 100: it must fill all/);
});

test.each(["--copy", "--user-copy", "--get-data"])(
  "%s: promises that never settle: ETIMEDOUT, and what is done late touches nobody's data",
  async (mode) => {
    using user = new UserFolder();
    // The first read and the first write of block 9 keep their buffers: later the one is filled again and
    // again, the other changed, and written to the disk.
    user.target(
      "disk.ts",
      `read(offset: number, into: Uint8Array) {
      if (offset === NINE && hung.read) {
        hung.read = false;
        return forever(() => { into[0] = 0xee; into.fill(0xee); });
      }
      into.set(bytes.subarray(offset, offset + into.length));
    },
    write(offset: number, from: Uint8Array) {
      if (offset === NINE && hung.write) {
        hung.write = false;
        return forever(() => { bytes.set(from, NINE); from.fill(0xdd); });
      }
      bytes.set(from, offset);
    },`,
      `const NINE = 9 * 4096;
const hung = { read: true, write: true };
const forever = (act: () => void) => {
  setInterval(() => { try { act(); } catch {} }, 1);
  return new Promise<void>(() => {});
};`,
    );
    await using device = await user.add("./disk.ts", "-n0", "-d1", "--io-timeout=1s", mode);
    await expect(readBlock(device.path, 9)).rejects.toThrow(/timed out/i);
    await expect(runOk(...ddWords(device.path, 9, "write"))).rejects.toThrow(/timed out/i);
    await until("both are in the log", () => log().split("ETIMEDOUT").length > 2);
    expect(log()).toMatch(/disk\.ts:\d+: read of 4096 bytes at 36864 has not answered for 1 s/);
    expect(log()).toMatch(/disk\.ts:\d+: write of 4096 bytes at 36864 has not answered for 1 s/);
    // The only tag goes on, with another buffer, while the old ones are used.
    const words = `--name=late --filename=${device.path} --ioengine=libaio --direct=1 --rw=randwrite
      --bssplit=4k/70:64k/30 --size=2m --verify=crc32c --verify_fatal=1 --verify_state_save=0`;
    await runOk("fio", ...words.split(/\s+/));
    expect((await device.report()).state).toBe("LIVE");
  },
);

test("a disk that waits for a web server has as many requests there as its queue is deep", async () => {
  const depth = 64;
  const waiting: (() => void)[] = [];
  let isHolding = false;
  // Once it holds, nobody is answered before all are there.
  using server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    async fetch() {
      if (isHolding) {
        const { promise, resolve } = Promise.withResolvers<void>();
        waiting.push(resolve);
        if (waiting.length === depth) {
          isHolding = false;
          for (const go of waiting) go();
        }
        await promise;
      }
      return new Response(new Uint8Array(4096).fill(7));
    },
  });
  using user = new UserFolder();
  user.target(
    "disk.ts",
    `async read(_offset: number, into: Uint8Array) {
      into.set(await (await fetch("${server.url.href}")).bytes());
    },`,
  );
  await using device = await user.add("./disk.ts", `-d${depth}`);
  isHolding = true;
  // With a gap after each read, so that no two become one.
  const words = "--name=f --ioengine=libaio --direct=1 --rw=read:4k --bs=4k";
  const load = [...words.split(" "), `--filename=${device.path}`, `--iodepth=${depth}`];
  await runOk("fio", ...load, `--number_ios=${depth}`, "--size=1m");
  expect(waiting.length).toBe(depth);
});
