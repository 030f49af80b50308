// Hosts as we find them: bare, locked down, without the driver, without rights.

import { afterEach, expect, test } from "bun:test";
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

import { BareRoot } from "../support/bare-root.ts";
import { readBlock } from "../support/crash.ts";
import {
  leftovers,
  type Outcome,
  program,
  repository,
  run,
  runOk,
  TestDevice,
  ublk,
  ublkOk,
  until,
} from "../support/program.ts";

afterEach(() => expect(leftovers()).toEqual([]));

/** Every command that needs the driver. */
const COMMANDS = [["add", "--target", "null"], ["recover", "0"], ["list"], ["del", "0"]] as const;

/** Every command ends like this, and what needs no driver works. */
async function expectRefused(
  runHere: (words: readonly string[]) => Promise<Outcome>,
  expected: { readonly exitCode: number; readonly sentence: string },
): Promise<void> {
  for (const words of COMMANDS) {
    const { exitCode, stdout, stderr } = await runHere(words);
    expect(stderr).toContain(expected.sentence);
    expect({ words, exitCode, stdout }).toEqual({ words, exitCode: expected.exitCode, stdout: "" });
    expect(stderr.trimEnd().split("\n").length).toBe(1);
  }
  expect((await runHere(["--version"])).exitCode).toBe(0);
  expect((await runHere(["help"])).exitCode).toBe(0);
}

/** A device's whole life, by commands made with `command`. */
async function expectWholeLife(command: (...words: string[]) => string[]): Promise<void> {
  await runOk(...command("add", "--target", "null", "-n", "0", "-q", "2", "--quiet"));
  await using device = new TestDevice(0);
  await readBlock(device.path);
  await device.killServer();
  expect(await runOk(...command("list", "0"))).toContain("state QUIESCED");
  await runOk(...command("recover", "0", "--quiet"));
  await readBlock(device.path, 1);
  expect(await runOk(...command("list", "0"))).toContain("state LIVE");
  await runOk(...command("del", "0"));
}

/** Sets a sysctl for the length of a scope. */
function sysctl(name: string, value: string): Disposable {
  const path = `/proc/sys/${name.replaceAll(".", "/")}`;
  const before = readFileSync(path, "utf8");
  writeFileSync(path, value);
  return { [Symbol.dispose]: () => writeFileSync(path, before) };
}

test("the bare executable, read-only, without a temporary folder", async () => {
  await using root = await BareRoot.make("/tmp/bare", { isMount: true });
  expect(await runOk(...root.command("--help"))).toContain("Usage");
  await expectWholeLife((...words) => root.command(...words));
  // All it ever wrote is in /run, and all of that is gone but the account of it.
  expect(await runOk("find", `${root.path}/run`, "-type", "f", "!", "-name", "events.ndjson")).toBe(
    "",
  );
});

test("a root that is no mount point keeps its own run folder", async () => {
  await using root = await BareRoot.make("/tmp/plain", { isMount: false });
  await runOk(...root.command("add", "--target", "null", "-n", "0", "--quiet"));
  expect(existsSync(`${root.path}/run/ublk-bun/0.json`)).toBe(true);
  expect(existsSync("/run/ublk-bun/0.json")).toBe(false);
  await runOk(...root.command("del", "0"));
});

test("without the driver every command says how to load it", async () => {
  await runOk("rmmod", "ublk_drv");
  try {
    const expected = { exitCode: 4, sentence: "modprobe ublk_drv" };
    await expectRefused((words) => ublk(...words), expected);
  } finally {
    await runOk("modprobe", "ublk_drv");
    await until("the driver is back", () => existsSync("/dev/ublk-control"));
  }
});

test("without root every command says so", async () => {
  const nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", program];
  const expected = { exitCode: 1, sentence: "run it as root" };
  await expectRefused((words) => run([...nobody, ...words]), expected);
});

test("without io_uring every command names the sysctl", async () => {
  using disabled = sysctl("kernel.io_uring_disabled", "2");
  void disabled;
  const expected = { exitCode: 4, sentence: "kernel.io_uring_disabled" };
  await expectRefused((words) => ublk(...words), expected);
});

test("memory files that may not be executed hold the library all the same", async () => {
  using refused = sysctl("vm.memfd_noexec", "2");
  void refused;
  await expectWholeLife((...words) => [program, ...words]);
});

test("--liburing and UBLK_BUN_LIBURING: a good one, none, and something else", async () => {
  for (const path of ["/nonexistent/liburing.so.2", "/etc/passwd", "/tmp"]) {
    const outcomes = [
      await ublk("list", "--liburing", path),
      await run([program, "list"], { env: { UBLK_BUN_LIBURING: path } }),
    ];
    for (const { exitCode, stderr } of outcomes) {
      expect(stderr).toContain(`Cannot load liburing "${path}"`);
      expect(exitCode).toBe(4);
    }
  }
  const env = { UBLK_BUN_LIBURING: `${repository}/dist/liburing.so.2` };
  await using device = new TestDevice(0);
  expect((await run([program, "add", "-t", "null", "-n", "0"], { env })).exitCode).toBe(0);
  await device.killServer();
  // The record remembers it: a recover from elsewhere needs no environment.
  await ublkOk("recover", "0", "--quiet");
  await readBlock(device.path);
});

test("a disk that was added with a library of its own is recovered with it", async () => {
  const library = "/run/liburing-of-its-own.so.2";
  const isMapped = async (device: TestDevice) =>
    readFileSync(`/proc/${await device.serverPid()}/maps`, "utf8").includes(library);
  copyFileSync(`${repository}/dist/liburing.so.2`, library);
  await using device = await TestDevice.add("null", "-n0", "--liburing", library);
  expect(await isMapped(device)).toBe(true);
  await device.killServer();
  rmSync(library);
  const refused = await ublk("recover", "0");
  expect(refused).toMatchObject({ exitCode: 4, stdout: "" });
  expect(refused.stderr).toContain(`Cannot load liburing "${library}"`);
  expect((await device.report()).state).toBe("QUIESCED");
  copyFileSync(`${repository}/dist/liburing.so.2`, library);
  await ublkOk("recover", "0");
  expect(await isMapped(device)).toBe(true);
  await readBlock(device.path);
  rmSync(library);
});

test("a run folder that cannot be written is an error before anything is done", async () => {
  await runOk("mount", "-t", "tmpfs", "-o", "ro", "ro", "/mnt");
  writeFileSync("/tmp/file", "");
  try {
    for (const folder of ["/mnt/run", "/mnt", "/tmp/file"]) {
      const { exitCode, stderr } = await ublk("add", "-t", "null", "--run-dir", folder);
      expect(stderr).toContain(`run folder "${folder}"`);
      expect(stderr).toContain("--run-dir");
      expect(exitCode).toBe(1);
      expect(stderr.trimEnd().split("\n").length).toBe(1);
    }
  } finally {
    await runOk("umount", "/mnt");
  }
});

test("a run folder elsewhere serves as well", async () => {
  mkdirSync("/tmp/elsewhere/deep", { recursive: true });
  await expectWholeLife((...words) => [program, ...words, "--run-dir", "/tmp/elsewhere/deep/run"]);
  expect(await runOk("find", "/tmp/elsewhere", "-type", "f", "!", "-name", "events.ndjson")).toBe(
    "",
  );
});

test("narrow limits of the shell do not keep a disk from its server", async () => {
  const limits = ["prlimit", "--memlock=0", "--nofile=16:16", "--core=0", "--", program];
  await expectWholeLife((...words) => [...limits, ...words]);
});

test("where bun:ffi is not possible the program says what to allow", async () => {
  const env = { BUN_JSC_useJIT: "0" };
  const { exitCode, stderr } = await run([program, "list"], { env });
  expect(stderr).toContain("unset BUN_JSC_useJIT");
  expect(exitCode).toBe(4);
  expect((await run([program, "--version"], { env })).exitCode).toBe(0);
});
