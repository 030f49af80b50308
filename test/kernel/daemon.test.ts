// The daemon on a real kernel: what it is born with, what ends it, and what does not.

import { afterEach, expect, test } from "bun:test";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { peek } from "../../src/device/processes.ts";
import { signalUntilLetGo } from "../support/crash.ts";
import { leftovers, program, run, runOk, TestDevice, ublkOk, until } from "../support/program.ts";

// What the daemon's every thread must have: its allocations may not wait for its own disk.
const PF_MEMALLOC_NOIO = 0x80000;
const PF_LOCAL_THROTTLE = 0x100000;
const O_CLOEXEC = 0o2000000;

const folder = mkdtempSync(join(tmpdir(), "daemon-"));
const log = () => readFileSync("/run/ublk-bun/0.log", "utf8");
const proc = (pid: number, file: string) => readFileSync(`/proc/${pid}/${file}`, "utf8");
const read = (path: string) =>
  runOk("dd", `if=${path}`, "of=/dev/null", "bs=4k", "iflag=direct", "count=8");

/** Fields of proc_pid_stat(5), from the state (3) on: [0] state, [3] session, [4] terminal, [6] flags. */
function stat(path: string): string[] {
  const text = readFileSync(path, "utf8");
  return text.slice(text.lastIndexOf(")") + 2).split(" ");
}

afterEach(() => expect(leftovers()).toEqual([]));

/** `ublk-bun WORD…` as somebody calls it whose environment must not reach a server. */
async function runHostile(...words: string[]): Promise<void> {
  const env = {
    BUN_OPTIONS: "--smol",
    NODE_OPTIONS: "--max-old-space-size=64",
    LD_PRELOAD: "/does/not/exist.so",
    UBLK_BUN_SECRET: "1",
    SECRET: "1",
  };
  expect((await run([program, ...words], { cwd: folder, env })).exitCode).toBe(0);
}

/** The variables that a process was born with. */
const variables = (pid: number) =>
  proc(pid, "environ")
    .split("\0")
    .filter(Boolean)
    .map((pair) => pair.split("=")[0])
    .toSorted();

test("it is born clean: environment, session, folder, mask, descriptors, protections", async () => {
  await runHostile("add", "null", "-n0", "-q2");
  await using device = new TestDevice(0);
  const pid = await device.serverPid();
  expect(variables(pid)).toEqual(["BUN_ENABLE_CRASH_REPORTING", "LANG", "PATH"]);
  expect(proc(pid, "cmdline")).toStartWith("@ublk-bun\0");
  expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/");
  expect(proc(pid, "status")).toMatch(/^Umask:\s+0077$/m);
  expect(proc(pid, "oom_score_adj").trim()).toBe("-1000");
  expect(readlinkSync(`/proc/${pid}/ns/mnt`)).not.toBe(readlinkSync("/proc/self/ns/mnt"));
  const [, , group, session, terminal] = stat(`/proc/${pid}/stat`);
  expect([group, session, terminal]).toEqual([String(pid), String(pid), "0"]);
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const path = `/proc/${pid}/task/${tid}/stat`;
    if (!existsSync(path)) continue;
    const wanted = PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE;
    expect(Number(stat(path)[6]) & wanted, `flags of thread ${tid}`).toBe(wanted);
  }
  await expectNoLeak(pid);
});

test("the server that recover starts is born as clean", async () => {
  await using device = await TestDevice.add("null", "-n0");
  await device.killServer();
  await runHostile("recover", "0");
  const pid = await device.serverPid();
  expect(variables(pid)).toEqual(["BUN_ENABLE_CRASH_REPORTING", "LANG", "PATH"]);
  expect(readlinkSync(`/proc/${pid}/cwd`)).toBe("/");
  await expectNoLeak(pid);
});

/** What a child of the daemon would inherit, or what its launcher has left it; 0, 1, 2 apart. */
function leakingDescriptors(pid: number): string[] {
  const own =
    /^(anon_inode:|socket:|\/dev\/ublk|\/run\/ublk-bun\/0\.log$|\/memfd:liburing|\/proc\/\d+\/mountinfo)/;
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    const path = peek(() => readlinkSync(`/proc/${pid}/fd/${fd}`));
    const info = peek(() => proc(pid, `fdinfo/${fd}`));
    // Closed meanwhile.
    if (path === undefined || info === undefined) return [];
    if (Number(fd) <= 2) return path === "/dev/null" || path.endsWith("/0.log") ? [] : [path];
    const flags = Number.parseInt(/flags:\s+(\d+)/.exec(info)![1]!, 8);
    return own.test(path) && (flags & O_CLOEXEC) !== 0 ? [] : [`${fd}: ${path}`];
  });
}

/** What it has for a moment only is none: it may be about to close its lock. */
async function expectNoLeak(pid: number): Promise<void> {
  await until("no leak", () => leakingDescriptors(pid).length === 0, 10_000).catch(() => {});
  expect(leakingDescriptors(pid)).toEqual([]);
}

test("a bunfig.toml or .env in the current folder changes nothing", async () => {
  const here = join(folder, "hostile");
  mkdirSync(here);
  const trace = join(here, "trace");
  writeFileSync(join(here, "preload.ts"), `require("fs").writeFileSync("${trace}", "x")`);
  writeFileSync(
    join(here, "bunfig.toml"),
    `preload = ["./preload.ts"]\n[run]\npreload = ["./preload.ts"]\n`,
  );
  writeFileSync(join(here, ".env"), "UBLK_BUN_LIBURING=/does/not/exist\nBUN_BE_BUN=1\n");
  for (const words of [["--version"], ["list"], ["add", "null", "-n0"], ["del", "0"]]) {
    const { exitCode, stdout, stderr } = await run([program, ...words], { cwd: here });
    expect({ words, exitCode, stderr }).toEqual({ words, exitCode: 0, stderr: "" });
    if (words[0] === "--version") expect(stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  }
  expect(existsSync(trace)).toBeFalse();
  rmSync(here, { recursive: true });
});

test("it outlives the shell that started it", async () => {
  // A session with its own group, as a terminal has it; the hang-up goes to all of the group.
  const shell = Bun.spawn(["setsid", "sh", "-c", `${program} add null -n0 --quiet; kill -HUP 0`]);
  await shell.exited;
  await using device = new TestDevice(0);
  expect(shell.signalCode).toBe("SIGHUP");
  await read(device.path);
  expect((await device.report()).state).toBe("LIVE");
});

test("SIGTERM to the daemon of an idle disk removes everything", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const pid = await device.serverPid();
  process.kill(pid, "SIGTERM");
  await until("everything is gone", () => leftovers().length === 0);
  expect(existsSync(device.path)).toBeFalse();
});

test("SIGTERM while the disk is open is refused in the log; a second one lets go", async () => {
  await using device = await TestDevice.add("null", "-n0");
  const pid = await device.serverPid();
  const holder = Bun.spawn(["sleep", "1000"], { stdio: [Bun.file(device.path), null, null] });
  try {
    process.kill(pid, "SIGTERM");
    await until("the refusal", () => log().includes("goes on serving"));
    expect(log()).toContain(`open in pid ${holder.pid} (sleep)`);
    await read(device.path);
    expect(existsSync(`/proc/${pid}`)).toBeTrue();
    await signalUntilLetGo(0, pid);
    await until("the end", () => !existsSync(`/proc/${pid}`));
  } finally {
    holder.kill();
    await holder.exited;
  }
  await device.untilState("QUIESCED");
  await ublkOk("recover", "0");
  await read(device.path);
  expect(await device.report()).toMatchObject({ state: "LIVE", restarts: 1 });
});

test("SIGTERM and del at once: the device is gone, and nothing else", async () => {
  await using device = await TestDevice.add("null", "-n0");
  process.kill(await device.serverPid(), "SIGTERM");
  const { exitCode } = await run([program, "del", "0"]);
  // 3: the daemon was quicker.
  expect([0, 3, 5]).toContain(exitCode);
  await until("everything is gone", () => leftovers().length === 0);
});
