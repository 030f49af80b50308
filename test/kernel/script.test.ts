// A disk whose code is a file, served by the compiled executable from another folder.

import { afterEach, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";

import { readBlock } from "../support/crash.ts";
import { leftovers, repository, runOk, ublkOk, until } from "../support/program.ts";
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

test("with perQueue a flush reaches every instance", async () => {
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
    async flush() { await Bun.sleep(5); appendFileSync(log, queueId + "\\n"); },
  }),
});
`,
  );
  await using device = await user.add("./disk.ts", "-q2");
  const { queues } = await device.report();
  rmSync(`${user.path}/flushed`, { force: true });
  await runOk("blockdev", "--flushbufs", device.path);
  await runOk(
    "dd",
    "if=/dev/zero",
    `of=${device.path}`,
    "bs=4k",
    "count=1",
    "oflag=direct",
    "conv=fsync",
    "status=none",
  );
  await until("all are flushed", () => existsSync(`${user.path}/flushed`));
  const flushed = readFileSync(`${user.path}/flushed`, "utf8").trim().split("\n").toSorted();
  expect([...new Set(flushed)]).toEqual(
    Array.from({ length: queues.length }, (_, id) => String(id)),
  );
});

test("errnos reach the application, and the log says where", async () => {
  using user = new UserFolder();
  user.target(
    "disk.ts",
    `async write(offset: number) {
      await Bun.sleep(1);
      if (offset === 4096) throw new BlockError("ENOSPC");
      throw new Error("plain");
    },`,
  );
  await using device = await user.add("./disk.ts");
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
});

test("a promise that never settles: ETIMEDOUT, and late writes touch nobody's data", async () => {
  using user = new UserFolder();
  // The first read of block 9 keeps its buffer, and later fills it again and again.
  user.target(
    "disk.ts",
    `read(offset: number, into: Uint8Array) {
      if (offset === 9 * 4096 && !isHung) {
        isHung = true;
        setInterval(() => { try { into[0] = 0xee; into.fill(0xee); } catch {} }, 1);
        return new Promise<void>(() => {});
      }
      into.set(bytes.subarray(offset, offset + into.length));
    },`,
    "let isHung = false;",
  );
  await using device = await user.add("./disk.ts", "-d1", "--io-timeout=1s");
  await expect(readBlock(device.path, 9)).rejects.toThrow(/timed out/i);
  await until("it is in the log", () => log().includes("ETIMEDOUT"));
  expect(log()).toMatch(/disk\.ts:7: read of 4096 bytes at 36864 has not answered for 1 s/);
  // The only tag goes on, with another buffer, while the old one is written to.
  await verifyMixed(device.path);
  expect((await device.report()).state).toBe("LIVE");
});

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
