// Surroundings that misbehave: a full run folder, a reader that is slow or gone, impatient signals.

import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";

import {
  hasFeature,
  leftovers,
  program,
  run,
  runOk,
  TestDevice,
  ublk,
  ublkOk,
  until,
} from "../support/program.ts";
import { untilEvent } from "../support/watching.ts";

afterEach(async () => {
  await until("nothing is left", () => leftovers().length === 0, 20_000).catch(() => {});
  expect(leftovers()).toEqual([]);
});

test("two SIGTERMs to the daemon of an idle disk remove it, or leave it to recover", async () => {
  for (const pauseMs of [0, 20, 100]) {
    await using device = await TestDevice.add("null", "-n0");
    const pid = await device.serverPid();
    process.kill(pid, "SIGTERM");
    await Bun.sleep(pauseMs);
    if (existsSync(`/proc/${pid}`)) process.kill(pid, "SIGTERM");
    await until("the daemon has ended", () => !existsSync(`/proc/${pid}`));
    const listed = await ublk("list", "0");
    expect([0, 3]).toContain(listed.exitCode);
    if (listed.exitCode === 3) continue;
    expect(listed.stdout).toContain("state QUIESCED");
    await ublkOk("recover", "0");
  }
});

/** A run folder with room for 64 KiB. */
async function tinyFolder(): Promise<AsyncDisposable & { readonly dir: string }> {
  const dir = mkdtempSync("/run/tiny-");
  await runOk("mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", dir);
  return {
    dir,
    [Symbol.asyncDispose]: async () => {
      await runOk("umount", dir);
      rmdirSync(dir);
    },
  };
}

const fill = (dir: string) => run(["sh", "-c", `cat /dev/zero > ${dir}/filler`]);

test("with a full run folder the disk is recovered all the same, and can be deleted", async () => {
  await using folder = await tinyFolder();
  const { dir } = folder;
  await ublkOk("add", "null", "-n0", "--quiet", "--run-dir", dir);
  await fill(dir);
  const pid = Number(/daemon pid (\d+)/.exec(await ublkOk("list", "0", "--run-dir", dir))?.[1]);
  process.kill(pid, "SIGKILL");
  await ublkOk("recover", "0", "--run-dir", dir);
  const listed = await ublkOk("list", "0", "--run-dir", dir);
  expect(listed).toContain("state LIVE");
  await ublkOk("del", "0", "--run-dir", dir);
  expect(await run(["ls", dir])).toMatchObject({ stdout: "events.ndjson\nfiller\n" });
});

test("with a full run folder a disk does not become something else: it waits as what it was", async () => {
  await using folder = await tinyFolder();
  const there = ["--run-dir", folder.dir];
  const record = () => readFileSync(`${folder.dir}/0.json`, "utf8");
  await ublkOk("add", "null", "-n0", "--size=1GiB", "--quiet", ...there);
  await using device = new TestDevice(0);
  await device.killServer();
  await fill(folder.dir);
  const before = record();
  const words = ["--target=fault_inject", "--fault=eio", "--fault-at=4096"];
  const refused = await ublk("recover", "0", ...words, ...there);
  expect(refused.stderr).toContain("Cannot write the record");
  expect(refused.stderr).toContain("make room there, then recover again");
  expect(refused.exitCode).toBe(1);
  expect(record()).toBe(before);
  await device.untilState("QUIESCED");
  rmSync(`${folder.dir}/filler`);
  await ublkOk("recover", "0", ...words, ...there);
  expect(record()).toContain("fault_inject");
  await ublkOk("del", "0", ...there);
});

if (await hasFeature("UPDATE_SIZE")) {
  test("with a full run folder a disk keeps its size; the same size again sets an old record right", async () => {
    await using folder = await tinyFolder();
    const there = ["--run-dir", folder.dir];
    const path = `${folder.dir}/0.json`;
    await ublkOk("add", "mem", "-n0", "--size=8MiB", "--quiet", ...there);
    await using device = new TestDevice(0);
    const before = readFileSync(path, "utf8");
    await fill(folder.dir);
    const refused = await ublk("update-size", "0", "4MiB", ...there);
    expect(refused.stderr).toContain("Cannot write the record");
    expect(refused.exitCode).toBe(1);
    expect(readFileSync("/sys/block/ublkb0/size", "utf8")).toBe(`${(8 * 1024 ** 2) / 512}\n`);
    await device.killServer();
    await ublkOk("recover", "0", "--quiet", ...there);
    rmSync(`${folder.dir}/filler`);
    await ublkOk("update-size", "0", "4MiB", ...there);
    const after = readFileSync(path, "utf8");
    // As a command that dies before it writes the record leaves it.
    writeFileSync(path, before);
    await ublkOk("update-size", "0", "4MiB", ...there);
    expect(JSON.parse(readFileSync(path, "utf8")).spec).toEqual(JSON.parse(after).spec);
    await device.killServer();
    await ublkOk("recover", "0", "--quiet", ...there);
    await ublkOk("del", "0", ...there);
  });
}

test("a slow reader gets all of the output, and a full disk is an error", async () => {
  await using device = await TestDevice.add("null", "-n0");
  void device;
  // One page of pipe, and a reader that begins late.
  const slow = await run(["bash", "-c", `"${program}" help add | (sleep 2; cat)`]);
  expect(slow.stdout).toBe(await ublkOk("help", "add"));
  const full = await run(["bash", "-c", `"${program}" list > /dev/full`]);
  expect(full.exitCode).toBe(1);
  expect(full.stderr).toContain("Cannot write the output");
});

test("a server whose log cannot be written goes on serving", async () => {
  const since = Date.now();
  const child = Bun.spawn(
    ["bash", "-c", `exec "${program}" add null -n0 --foreground 2>&1 | head -1`],
    { stdio: ["ignore", "pipe", "ignore"] },
  );
  // The kernel calls it live before it has told its server so.
  await untilEvent("live", 0, since);
  await using device = new TestDevice(0);
  const pid = await device.serverPid();
  const holder = Bun.spawn(["sleep", "1000"], { stdio: [Bun.file(device.path), null, null] });
  // What is refused is logged, to a pipe that nobody reads.
  process.kill(pid, "SIGTERM");
  await Bun.sleep(500);
  process.kill(pid, 0);
  expect((await device.report()).state).toBe("LIVE");
  expect(readFileSync(`/proc/${pid}/comm`, "utf8")).toBe("ublk-bun\n");
  holder.kill("SIGKILL");
  await holder.exited;
  child.kill();
});
