// Filters over disks of a real kernel: verified I/O, kill -9, recover and upgrade, and what is refused.

import { afterEach, expect, test } from "bun:test";
import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";

import type { DeviceRecord } from "../../src/device/store.ts";
import { recordText } from "../support/crash.ts";
import {
  deviceNames,
  hasFeature,
  leftovers,
  program,
  repository,
  run,
  runOk,
  ublk,
  ublkOk,
} from "../support/program.ts";
import { torture } from "../support/torture/torture.ts";
import { verifyThroughDeaths } from "../support/torture/verified.ts";
import { UserFolder } from "../support/user-target.ts";
import { verifyMeanwhile, verifyMixed } from "../support/verify.ts";

const SIZE = 24 * 1024 ** 2;

/** What the two logs of the stack write. */
const [LOWER, UPPER] = ["/tmp/lower", "/tmp/upper"];

/** One kernel is enough for what is the same on all: guests are slow. */
const isNewest = await hasFeature("UPDATE_SIZE");

afterEach(() => {
  for (const path of [LOWER, UPPER]) rmSync(path, { force: true });
  expect(leftovers()).toEqual([]);
});

/** A file of random bytes that a disk lies on; its hash tells whether it was changed. */
function base(user: UserFolder): { readonly path: string; readonly hash: () => number | bigint } {
  const path = user.write("base.img", "");
  writeFileSync(path, crypto.getRandomValues(new Uint8Array(65_536)));
  truncateSync(path, SIZE);
  return { path, hash: () => Bun.hash(readFileSync(path)) };
}

test("cow: verified I/O on three queues, the base untouched; killed, recovered, upgraded, added again", async () => {
  using user = new UserFolder();
  const { path, hash } = base(user);
  const before = hash();
  const words = ["loop", "-f", path, "--read-only", "--filter", "cow=over"];
  {
    await using device = await user.add(...words, "-q3");
    const { filters, target } = await device.listed();
    expect(target).toBe("loop");
    expect(filters).toEqual([{ name: "cow", spec: { file: `${user.path}/over` } }]);
    await verifyMixed(device.path);
    // Written and answered, flushed by nobody: a dead server must not lose it.
    const noise = `${user.path}/noise`;
    writeFileSync(noise, crypto.getRandomValues(new Uint8Array(1024 ** 2)));
    const write = ["dd", `if=${noise}`, `of=${device.path}`, "bs=64k", "oflag=direct"];
    await runOk(...write, "status=none");
    const same = ["cmp", "-n", String(1024 ** 2), noise, device.path];
    await device.killServer();
    await ublkOk("recover", String(device.id), "--quiet");
    await runOk("blockdev", "--flushbufs", device.path);
    await runOk(...same);
    await ublkOk("upgrade", String(device.id));
    await runOk("blockdev", "--flushbufs", device.path);
    await runOk(...same);
    expect(hash()).toBe(before);
    expect(JSON.parse(recordText(device.id)) as DeviceRecord).toMatchObject({
      version: 2,
      filters,
    });
  }
  await using device = await user.add(...words);
  await runOk("cmp", "-n", String(1024 ** 2), `${user.path}/noise`, device.path);
  expect(hash()).toBe(before);
});

test("cow under ext4: killed while it is mounted, recovered, and sound", async () => {
  using user = new UserFolder();
  const { path, hash } = base(user);
  const before = hash();
  await using device = await user.add("loop", "-f", path, "--filter", "cow=over");
  await runOk("mkfs.ext4", "-q", "-F", device.path);
  const folder = user.write("x", "").replace(/x$/, "mnt");
  await runOk("mkdir", folder);
  await runOk("mount", device.path, folder);
  try {
    const fill = ["dd", "if=/dev/urandom", `of=${folder}/a`, "bs=64k", "count=32"];
    await runOk(...fill, "conv=fsync", "status=none");
    const sum = await runOk("sha256sum", `${folder}/a`);
    await device.killServer();
    await ublkOk("recover", String(device.id), "--quiet");
    await runOk("cp", `${folder}/a`, `${folder}/b`);
    await runOk("sync", "-f", folder);
    await runOk("sh", "-c", "echo 3 > /proc/sys/vm/drop_caches");
    expect(await runOk("sha256sum", `${folder}/a`)).toBe(sum);
    await runOk("cmp", `${folder}/a`, `${folder}/b`);
  } finally {
    await runOk("umount", folder);
  }
  await runOk("e2fsck", "-fn", device.path);
  expect(hash()).toBe(before);
});

test("cow: verified writes go on through kills and recoveries, and the base stays as it is", async () => {
  using user = new UserFolder();
  const { path, hash } = base(user);
  const before = hash();
  // One queue: the second would have no thread of its own to be killed.
  const words = ["loop", "-f", path, "--read-only", "--filter", "cow=over", "-q1"];
  await using device = await user.add(...words);
  await verifyThroughDeaths(device, torture(3));
  expect(hash()).toBe(before);
});

test("cow: upgraded under verified writes", async () => {
  using user = new UserFolder();
  const { path, hash } = base(user);
  const before = hash();
  await using device = await user.add("loop", "-f", path, "--filter", "cow=over", "-q2");
  await using fio = await verifyMeanwhile(device.path);
  await device.untilBusy();
  await ublkOk("upgrade", String(device.id));
  expect(fio.running).toBe(true);
  const { exitCode, stdout, stderr } = await fio.ended;
  expect({ exitCode, stderr }, stdout).toEqual({ exitCode: 0, stderr: "" });
  expect(hash()).toBe(before);
});

test("cow: ranges in parts written, discarded and zeroed; a full overlay says so, and can be flushed", async () => {
  using user = new UserFolder();
  const { path, hash } = base(user);
  const before = hash();
  const shadow = `${user.path}/shadow`;
  const small = `${user.path}/small`;
  await runOk("cp", path, shadow);
  await runOk("mkdir", small);
  await runOk("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small);
  try {
    await using device = await user.add("loop", "-f", path, "--filter", "cow=small/over");
    const write = (to: string, first: number, blocks: number, ...more: string[]) => {
      const range = [`seek=${first}`, "bs=512", `count=${blocks}`, "conv=notrunc"];
      return runOk("dd", `if=${program}`, `of=${to}`, "status=none", ...range, ...more);
    };
    const same = async () => {
      await runOk("blockdev", "--flushbufs", device.path);
      await runOk("cmp", shadow, device.path);
    };
    for (const [first, blocks] of [
      [3, 1],
      [10, 9],
      [120, 17],
    ] as const) {
      await write(device.path, first, blocks, "oflag=direct");
      await write(shadow, first, blocks);
    }
    await same();
    const discard = ["-o", "6144", "-l", "1536", device.path];
    const zero = ["-o", "61440", "-l", "5120", device.path];
    await runOk("blkdiscard", ...discard);
    await runOk("blkdiscard", "--zeroout", ...zero);
    const bytes = readFileSync(shadow).fill(0, 6144, 7680).fill(0, 61_440, 66_560);
    writeFileSync(shadow, bytes);
    await same();
    await device.killServer();
    await ublkOk("recover", String(device.id), "--quiet");
    await same();
    const flood = ["dd", "if=/dev/zero", `of=${device.path}`, "bs=64k", "seek=4", "oflag=direct"];
    await expect(runOk(...flood)).rejects.toThrow("No space left on device");
    await write(device.path, 3, 1, "oflag=direct", "conv=notrunc,fsync");
    expect(hash()).toBe(before);
  } finally {
    await runOk("umount", small);
  }
});

test("a stack over mem, in order: seen in its shape, its requests, and its record", async () => {
  using user = new UserFolder();
  const log = `${repository}/examples/log.ts`;
  const words = [`${log},path=${LOWER}`, "offset=8MiB", "delay=1ms", `${log},path=${UPPER}`];
  const filter = words.flatMap((word) => ["--filter", word]);
  await using device = await user.add("mem", "--size=32MiB", ...filter);
  const { filters, sizeBytes, identity } = await device.listed();
  expect(sizeBytes).toBe(SIZE);
  expect(filters.map(({ name }) => name)).toEqual([log, "offset", "delay", log]);
  await verifyMixed(device.path);
  const mem = `/dev/shm/ublk-bun-${identity}`;
  await runOk("cmp", `--ignore-initial=0:${8 * 1024 ** 2}`, device.path, mem);
  const text = await ublkOk("list", String(device.id));
  expect(text).toMatch(/^\tfilter offset \{"offsetBytes":8388608\}$/m);
  await device.killServer();
  for (const path of [LOWER, UPPER]) rmSync(path);
  await ublkOk("recover", String(device.id), "--quiet");
  await runOk("dd", `if=${device.path}`, "of=/dev/null", "bs=1536", "count=1", "iflag=direct");
  expect(readFileSync(UPPER, "utf8")).toMatch(/^read 0 1536$/m);
  expect(readFileSync(LOWER, "utf8")).toMatch(/^read 8388608 1536$/m);
});

if (isNewest) {
  test("rate and delay hold every request back", async () => {
    using user = new UserFolder();
    const filters = ["--filter", "rate=512KiB", "--filter", "delay=50ms"];
    await using device = await user.add("null", "--size=24MiB", ...filters);
    const words = [`if=${device.path}`, "of=/dev/null", "bs=64k", "count=8", "iflag=direct"];
    const { exitCode, milliseconds } = await run(["dd", ...words]);
    expect(exitCode).toBe(0);
    // Without the rate it could be 400 ms, without the delay 1000.
    expect(milliseconds).toBeGreaterThan(1350);
  });
}

test("recover with a changed filter is refused, naming the file, unless it is accepted", async () => {
  using user = new UserFolder();
  const filter = (value: number) =>
    user.write(
      "ones.ts",
      `import { defineFilter } from "ublk-bun";
export default defineFilter({
open: (below) => ({
  async read(offset, into) { await below.read(offset, into); if (offset === 4096) into.fill(${value}); },
}),
});`,
    );
  const first = (device: { readonly path: string }) =>
    runOk("dd", `if=${device.path}`, "bs=4k", "skip=1", "count=1", "iflag=direct", "status=none");
  filter(49);
  await using device = await user.add("mem", "--size=24MiB", "--filter", "./ones.ts");
  expect(await first(device)).toBe("1".repeat(4096));
  await device.killServer();
  filter(50);
  const refused = await ublk("recover", String(device.id));
  expect(refused.stderr).toContain(`has changed since it was made: ${user.path}/ones.ts`);
  expect(refused.exitCode).toBe(6);
  await ublkOk("recover", String(device.id), "--quiet", "--accept-changes");
  expect(await first(device)).toBe("2".repeat(4096));
  filter(51);
  await ublkOk("upgrade", String(device.id));
  expect(await first(device)).toBe("3".repeat(4096));
});

test("error: the application gets that errno", async () => {
  using user = new UserFolder();
  await using device = await user.add(
    "null",
    "--size=24MiB",
    "--filter",
    "error=ENOSPC",
    "--no-wait",
  );
  const write = ["dd", "if=/dev/zero", `of=${device.path}`, "bs=4k", "count=1", "oflag=direct"];
  await expect(runOk(...write)).rejects.toThrow("No space left on device");
  expect((await device.report()).state).toBe("LIVE");
});

test("what cannot be is refused before anything is made", async () => {
  using user = new UserFolder();
  const { path } = base(user);
  const cow = ["loop", "-f", path, "--filter", "cow=over"];
  const refused: readonly (readonly [words: string[], exitCode: number, said: string])[] = [
    [[...cow, "--zero-copy"], 2, "cannot run with --zero-copy"],
    [[...cow, "--batch"], 2, "A disk with filters cannot be served with --batch"],
    [["loop", "-f", path, "--filter", `cow=${path}`], 2, "is used twice by the same disk"],
    [["loop", "-f", path, "--filter", "offset=24MiB"], 1, "leaves no disk"],
    [["mem", "--size=24MiB", "--filter", `cow=${path}`], 1, "is not an overlay of ublk-bun"],
  ];
  for (const [words, exitCode, said] of refused) {
    const outcome = await user.ublk("add", ...words);
    expect(outcome.stderr).toContain(said);
    expect(outcome.exitCode).toBe(exitCode);
    expect(deviceNames()).toEqual([]);
    expect(existsSync(`${user.path}/over`)).toBe(false);
  }
  expect((await runOk("sh", "-c", "ls /dev/shm | grep ublk-bun- | wc -l")).trim()).toBe("0");
});

test("a disk with filters keeps its size, and recover --target does not drop them unsaid", async () => {
  using user = new UserFolder();
  const { path } = base(user);
  await using device = await user.add("loop", "-f", path, "--filter", "cow=over");
  const id = String(device.id);
  const other = await user.ublk("add", "mem", "--size=24MiB", "--filter", "cow=over");
  expect(other.stderr).toContain(`is in use by device ${id}`);
  expect(other.exitCode).toBe(5);
  const resized = await ublk("update-size", id, "16MiB");
  expect(resized.exitCode).toBe(4);
  if (isNewest) {
    expect(resized.stderr).toContain("A disk of loop with filters cannot change its size");
  }
  await device.killServer();
  const dropped = await ublk("recover", id, "--target", "loop", "-f", path);
  expect(dropped.stderr).toContain(`Device ${id} has filters: cow`);
  expect(dropped.exitCode).toBe(2);
  const said = await user.ublk(
    "recover",
    id,
    "--target",
    "loop",
    "-f",
    path,
    "--filter",
    "cow=over",
    "--quiet",
  );
  expect(said.exitCode, said.stderr).toBe(0);
  expect((await device.listed()).filters).toHaveLength(1);
});
