// The examples as disks of a real kernel: what they hold is verified, also after a kill.

import { afterEach, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { leftovers, repository, runOk, type TestDevice, ublkOk } from "../support/program.ts";
import { sparseFile } from "../support/sparse-file.ts";
import { UserFolder } from "../support/user-target.ts";
import { verifyMixed } from "../support/verify.ts";

const MIB = 1024 ** 2;
const example = (name: string) => `${repository}/examples/${name}`;

afterEach(() => expect(leftovers()).toEqual([]));

/** Random data through the page of the disk, a kill, and the same data again. */
async function keepsThroughAKill(device: TestDevice): Promise<void> {
  await runOk("dd", "if=/dev/urandom", `of=${device.path}`, "bs=256k", "count=16", "conv=fsync");
  const before = await runOk("sha256sum", device.path);
  await device.killServer();
  await ublkOk("recover", "0", "--quiet");
  await runOk("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches");
  expect(await runOk("sha256sum", device.path)).toBe(before);
}

test("sqlite.ts: its data is in the database, and outlives its server", async () => {
  using user = new UserFolder();
  const words = ["--param=path=disk.db", "--param=size=8MiB"];
  await using device = await user.add("--target", example("sqlite.ts"), ...words);
  await keepsThroughAKill(device);
  expect(existsSync(join(user.path, "disk.db"))).toBe(true);
  await runOk("blkdiscard", device.path);
  await runOk("cmp", "-n", String(8 * MIB), device.path, "/dev/zero");
});

test("encrypt.ts: its data is read back, and is not in the file", async () => {
  using user = new UserFolder();
  user.write("key", "0123456789abcdef".repeat(4) + "fedcba9876543210".repeat(4));
  const file = sparseFile(join(user.path, "disk.img"), 8 * MIB);
  const words = ["--param=path=disk.img", "--param=key=key"];
  await using device = await user.add("--target", example("encrypt.ts"), ...words);
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
  await verifyMixed(device.path, 2);
  await keepsThroughAKill(device);
  await runOk("cmp", device.path, file);
});

test("pattern.ts: a terabyte, of which every eight bytes are their offset", async () => {
  using user = new UserFolder();
  await using device = await user.add("--target", example("pattern.ts"));
  const at = 2 ** 39 + 512;
  const words = [
    "-c",
    `dd if=${device.path} bs=512 skip=${at / 512} count=1 status=none | od -An -t u8 -N 16`,
  ];
  expect((await runOk("sh", ...words)).trim().split(/\s+/)).toEqual([String(at), String(at + 8)]);
});

test("http.ts: what the server has, read once; the next server reads it from the cache", async () => {
  using user = new UserFolder();
  const image = crypto.getRandomValues(new Uint8Array(65_536)).toBase64().repeat(24);
  const bytes = new TextEncoder().encode(image).slice(0, 2 * MIB);
  let reads = 0;
  const server = Bun.serve({
    port: 0,
    fetch(request) {
      const headers = { "accept-ranges": "bytes", etag: '"one"' };
      const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "");
      if (range === null) return new Response(bytes, { headers });
      reads++;
      const part = bytes.slice(Number(range[1]), Number(range[2]) + 1);
      return new Response(part, { status: 206, headers });
    },
  });
  try {
    const file = user.write("expected", "");
    await Bun.write(file, bytes);
    const words = [`--param=url=http://127.0.0.1:${server.port}/disk`, "--param=cache=cache"];
    await using device = await user.add("--target", example("http.ts"), ...words);
    await runOk("cmp", device.path, file);
    expect(reads).toBe((2 * MIB) / 65_536);
    await device.killServer();
    await ublkOk("recover", "0", "--quiet");
    await runOk("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches");
    await runOk("cmp", device.path, file);
    expect(reads).toBe((2 * MIB) / 65_536);
    expect(readdirSync(join(user.path, "cache"))).toHaveLength(1);
  } finally {
    await server.stop(true);
  }
});

test("the tutorial's last part: a new folder's disk, ext4, a kill, and it works", async () => {
  using user = new UserFolder();
  expect((await user.ublk("init", "my-disk")).exitCode).toBe(0);
  const words = ["--param=path=blocks", "--param=size=64MiB"];
  await using device = await user.add("--target", "./my-disk/disk.ts", ...words);
  await runOk("mkfs.ext4", "-q", device.path);
  await runOk("mount", device.path, "/mnt");
  try {
    await runOk("sh", "-c", "echo it works > /mnt/hello && sync -f /mnt/hello");
    await device.killServer();
    await ublkOk("recover", "0", "--quiet");
    await runOk("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches");
    expect(await runOk("cat", "/mnt/hello")).toBe("it works\n");
  } finally {
    await runOk("umount", "/mnt");
  }
  await runOk("e2fsck", "-fn", device.path);
});
