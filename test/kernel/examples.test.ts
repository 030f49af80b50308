// The examples as disks of a real kernel: what they hold is verified, also after a kill.

import { afterEach, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";

import { readBlock } from "../support/crash.ts";
import { isFragile } from "../support/fragile.ts";
import { startNginx } from "../support/nginx.ts";
import {
  leftovers,
  program,
  repository,
  run,
  runOk,
  type TestDevice,
  ublk,
  ublkOk,
  until,
} from "../support/program.ts";
import { sparseFile } from "../support/sparse-file.ts";
import { makeDisk, pullThePlug } from "../support/tutorial.ts";
import { UserFolder } from "../support/user-target.ts";
import { verifyMixed } from "../support/verify.ts";

const MIB = 1024 ** 2;
const example = (name: string) => `${repository}/examples/${name}`;

afterEach(() => expect(leftovers()).toEqual([]));

// Some kernels can crash under what it does: fio goes on while its server is killed.
test.skipIf(isFragile)("crash-and-recover.sh: what `npm start` shows", async () => {
  try {
    const shown = await runOk("sh", example("crash-and-recover.sh"));
    expect(shown).toContain("state QUIESCED");
    expect(shown).toContain("\n# fio ended with status 0: err= 0\n");
    expect(shown).toEndWith("\nNothing was lost.\n");
  } finally {
    await ublk("del", "0", "--force");
  }
});

/** Random data through the page of the disk, a kill, and the same data again. */
async function keepsThroughAKill(device: TestDevice): Promise<void> {
  await runOk("dd", "if=/dev/urandom", `of=${device.path}`, "bs=256k", "count=4", "conv=fsync");
  const before = await runOk("sha256sum", device.path);
  await device.killServer();
  await ublkOk("recover", "0", "--quiet");
  await runOk("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches");
  expect(await runOk("sha256sum", device.path)).toBe(before);
}

/** What fio writes at depth 32, in large and small pieces, it reads again. */
async function verifyPieces(device: TestDevice, mib: number): Promise<void> {
  const words = `--name=pieces --filename=${device.path} --ioengine=libaio --direct=1 --rw=randwrite
    --bssplit=4k/60:16k/30:256k/10 --iodepth=32 --size=${mib}m --verify=crc32c --verify_fatal=1
    --verify_state_save=0`;
  await runOk("fio", ...words.split(/\s+/));
}

test("memory.ts: recover without its file is refused and changes nothing; with it all is there again", async () => {
  using user = new UserFolder();
  const file = "/dev/shm/examples-test";
  const words = [`--param=path=${file}`, "--param=size=4MiB"];
  try {
    await using device = await user.add("--target", example("memory.ts"), "-n0", ...words);
    await runOk("dd", "if=/dev/urandom", `of=${device.path}`, "bs=256k", "count=4", "conv=fsync");
    const before = await runOk("sha256sum", device.path);
    await device.killServer();
    renameSync(file, `${file}.away`);
    const waiting = readBlock(device.path, 900);
    const refused = await ublk("recover", "0");
    expect(refused.stderr).toMatch(/memory\.ts:\d+:\d+: open failed: ENOENT.*examples-test/);
    expect(refused.exitCode).toBe(1);
    expect(existsSync(file)).toBe(false);
    await device.untilState("QUIESCED");
    renameSync(`${file}.away`, file);
    await ublkOk("recover", "0", "--quiet");
    await waiting;
    await runOk("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches");
    expect(await runOk("sha256sum", device.path)).toBe(before);
  } finally {
    rmSync(file, { force: true });
    rmSync(`${file}.away`, { force: true });
  }
});

test("sqlite.ts: its data is in the database, and outlives its server", async () => {
  using user = new UserFolder();
  const words = ["--param=path=disk.db", "--param=size=4MiB"];
  await using device = await user.add("--target", example("sqlite.ts"), ...words);
  await verifyPieces(device, 4);
  await keepsThroughAKill(device);
  expect(existsSync(join(user.path, "disk.db"))).toBe(true);
  await runOk("blkdiscard", device.path);
  await runOk("cmp", "-n", String(4 * MIB), device.path, "/dev/zero");
});

test("encrypt.ts: its data is read back, and is not in the file", async () => {
  using user = new UserFolder();
  user.write("key", "0123456789abcdef".repeat(4) + "fedcba9876543210".repeat(4));
  const file = sparseFile(join(user.path, "disk.img"), 2 * MIB);
  const words = ["--param=path=disk.img", "--param=key=key"];
  await using device = await user.add("--target", example("encrypt.ts"), ...words);
  await verifyPieces(device, 2);
  await runOk(
    "sh",
    "-c",
    `yes plaintext | head -c ${MIB} | dd of=${device.path} conv=fsync status=none`,
  );
  expect(await runOk("sh", "-c", `grep -c plaintext ${file} || true`)).toBe("0\n");
  await keepsThroughAKill(device);
});

test("ring-file.ts: verified I/O of all sizes, and a kill", async () => {
  using user = new UserFolder();
  const file = sparseFile(join(user.path, "disk.img"), 24 * MIB);
  const words = ["--param=path=disk.img", "-q2"];
  await using device = await user.add("--target", example("ring-file.ts"), ...words);
  await verifyMixed(device.path);
  await keepsThroughAKill(device);
  await runOk("cmp", device.path, file);
});

const PART_BYTES = 4 * MIB;

/**
 * Every eight bytes of a part of the disk are their own offset. It is read beside the page cache by
 * sixteen readers at once, whose every request the kernel splits again.
 */
async function expectOffsets(device: TestDevice, at: number, out: string): Promise<void> {
  const bytes = PART_BYTES / 16;
  const readers = Array.from({ length: 16 }, (_, i) => {
    const words = `if=${device.path} of=${out} bs=${bytes} count=1 iflag=direct,skip_bytes,fullblock
      oflag=seek_bytes skip=${at + i * bytes} seek=${i * bytes} conv=notrunc status=none`;
    return runOk("dd", ...words.split(/\s+/));
  });
  await Promise.all(readers);
  const found = new BigUint64Array(readFileSync(out).buffer);
  rmSync(out);
  expect(found.length).toBe(PART_BYTES / 8);
  const wrong = found.findIndex((word, i) => word !== BigInt(at + i * 8));
  expect({ at, wrong }).toEqual({ at, wrong: -1 });
}

test("pattern.ts: a terabyte, every eight bytes their offset; what it lacks is not advertised", async () => {
  using user = new UserFolder();
  await using device = await user.add("--target", example("pattern.ts"));
  const out = join(user.path, "read");
  const parts = [0, 2 ** 32 - 2 * MIB, 2 ** 40 - PART_BYTES];
  for (const at of parts) await expectOffsets(device, at, out);
  await device.killServer();
  await ublkOk("recover", "0", "--quiet");
  for (const at of parts) await expectOffsets(device, at, out);
  const told = (file: string) => readFileSync(`/sys/block/ublkb0/${file}`, "utf8").trim();
  expect(told("ro")).toBe("1");
  expect(told("queue/write_cache")).toBe("write through");
  expect(told("queue/discard_max_bytes")).toBe("0");
});

test("http.ts: what nginx has, read once; the next server reads it from the cache", async () => {
  using user = new UserFolder();
  await using web = await startNginx(user.path);
  const file = join(web.folder, "disk.img");
  await runOk("dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=2", "status=none");
  const words = [`--param=url=${web.url}/disk.img`, "--param=cache=cache"];
  await using device = await user.add("--target", example("http.ts"), ...words);
  await runOk("cmp", device.path, file);
  expect(web.answers(206)).toBe((2 * MIB) / 65_536);
  await device.killServer();
  await ublkOk("recover", "0", "--quiet");
  await runOk("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches");
  await runOk("cmp", device.path, file);
  expect(web.answers(206)).toBe((2 * MIB) / 65_536);
  expect(readdirSync(join(user.path, "cache"))).toHaveLength(1);
});

test("http.ts: a file that has changed on nginx is no longer this disk: EIO, and the log says why", async () => {
  using user = new UserFolder();
  await using web = await startNginx(user.path);
  const file = join(web.folder, "disk.img");
  await runOk("dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=1", "status=none");
  const words = [`--param=url=${web.url}/disk.img`, "--param=cache=cache"];
  await using device = await user.add("--target", example("http.ts"), "-n0", ...words);
  const kept = await runOk("sh", "-c", `head -c 4096 ${device.path} | sha256sum`);
  await runOk("dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=2", "status=none");
  await expect(readBlock(device.path, 255)).rejects.toThrow("Input/output error");
  await until("it is in the log", () =>
    readFileSync("/run/ublk-bun/0.log", "utf8").includes("disk.img: status 200; answered EIO"),
  );
  // What was read of the disk before is there still.
  await runOk("blockdev", "--flushbufs", device.path);
  expect(await runOk("sh", "-c", `head -c 4096 ${device.path} | sha256sum`)).toBe(kept);
});

test("http.ts: another file of the same size is refused to recover; the one that it was is not", async () => {
  using user = new UserFolder();
  await using web = await startNginx(user.path);
  const file = join(web.folder, "disk.img");
  await runOk("dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=1", "status=none");
  await runOk("cp", "-p", file, `${file}.first`);
  const words = [`--param=url=${web.url}/disk.img`, "--param=cache=cache"];
  await using device = await user.add("--target", example("http.ts"), "-n0", ...words);
  await device.killServer();
  await runOk("dd", "if=/dev/urandom", `of=${file}`, "bs=1M", "count=1", "status=none");
  // nginx makes its etag of size and seconds.
  await runOk("touch", "-d", "2020-01-01", file);
  const refused = await ublk("recover", "0");
  expect(refused.stderr).toContain("/disk.img has changed since the disk was made");
  expect(refused.exitCode).toBe(1);
  await device.untilState("QUIESCED");
  await runOk("cp", "-p", `${file}.first`, file);
  await ublkOk("recover", "0", "--quiet");
  await runOk("cmp", device.path, file);
});

test("the tutorial's last part: a new folder's disk, ext4, a kill, and it works", async () => {
  using user = new UserFolder();
  expect((await user.ublk("init", "my-disk")).exitCode).toBe(0);
  const type = async (commands: string) => {
    const env = { PATH: `${dirname(program)}:${process.env["PATH"]}` };
    const cwd = join(user.path, "my-disk");
    const { exitCode, stdout, stderr } = await run(["sh", "-ec", commands], { cwd, env });
    expect(exitCode, stdout + stderr).toBe(0);
    return stdout;
  };
  try {
    await type(makeDisk);
    expect(await type(pullThePlug)).toContain("\nit works\n");
  } finally {
    await run(["umount", "-q", "/mnt"]);
    await ublk("del", "0", "--force");
    rmSync("/var/tmp/blocks", { force: true });
  }
});
