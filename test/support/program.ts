// The compiled executable as a test uses it, on a machine (usually a guest) that has the ublk driver.

import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { resolve } from "node:path";

import type { DeviceReport } from "../../src/device/inspect.ts";
import { peek } from "../../src/device/processes.ts";
import { askFeatures, askReport } from "./ask.ts";
import { withBatch } from "./batch.ts";
import { freeze } from "./fragile.ts";

export type { DeviceReport };

export const repository = resolve(import.meta.dir, "../..");
/** The executable under test. */
export const program = process.env["UBLK_BUN_PROGRAM"] ?? `${repository}/dist/ublk-bun`;

if (!existsSync("/dev/ublk-control") && !process.env["UBLK_NO_DRIVER"]) {
  throw new Error("These tests need the ublk driver: run them with `npm run test:kernel`");
}

export interface Outcome {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly milliseconds: number;
}

export interface RunOptions {
  readonly env?: Record<string, string>;
  readonly cwd?: string;
}

/** Runs any command to its end. */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  const began = performance.now();
  const child = Bun.spawn([...command], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr, milliseconds: performance.now() - began };
}

/** Runs `ublk-bun WORD…`; see batch.ts. */
export function ublk(...words: string[]): Promise<Outcome> {
  return run([program, ...withBatch(words)]);
}

/** Runs `ublk-bun WORD…`, which must succeed; returns what it printed. */
export async function ublkOk(...words: string[]): Promise<string> {
  return expectOk(await ublk(...words), `ublk-bun ${words.join(" ")}`);
}

/** Runs a command that must succeed; returns what it printed. */
export async function runOk(...command: string[]): Promise<string> {
  return expectOk(await run(command), command.join(" "));
}

function expectOk(outcome: Outcome, what: string): string {
  if (outcome.exitCode === 0) return outcome.stdout;
  throw new Error(`${what}: exit ${outcome.exitCode}\n${outcome.stdout}${outcome.stderr}`);
}

/** Waits until `condition` holds, looking every few milliseconds; never for a fixed time. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  timeoutMs = 60_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await Bun.sleep(10);
  }
}

/** A device under test: deleted at the end of its scope, whatever happened to it. */
export class TestDevice implements AsyncDisposable {
  readonly id: number;
  readonly path: string;

  constructor(id: number) {
    this.id = id;
    this.path = `/dev/ublkb${id}`;
  }

  /** `ublk-bun add WORD…`. */
  static async add(...words: string[]): Promise<TestDevice> {
    const report = JSON.parse(await ublkOk("add", "--json", ...words)) as DeviceReport;
    return new TestDevice(report.id);
  }

  /** What is known of it; `listed` asks the executable. */
  report(): Promise<DeviceReport> {
    return askReport(this.id);
  }

  /** `ublk-bun list ID --json`. */
  async listed(): Promise<DeviceReport> {
    const [report] = JSON.parse(await ublkOk("list", String(this.id), "--json"));
    return report as DeviceReport;
  }

  async serverPid(): Promise<number> {
    const { serverPid } = await this.report();
    if (serverPid === null) throw new Error(`device ${this.id} has no server`);
    return serverPid;
  }

  /** Nanoseconds that each queue's thread has run. Source: proc_pid_schedstat(5). */
  async ranNs(): Promise<number[]> {
    const { serverPid, queues } = await this.report();
    return queues.map(({ threadId }) =>
      Number(readFileSync(`/proc/${serverPid}/task/${threadId}/schedstat`, "utf8").split(" ")[0]),
    );
  }

  async untilState(state: DeviceReport["state"]): Promise<void> {
    await until(`state ${state}`, async () => (await this.report()).state === state);
  }

  /** Until somebody's requests are under way. */
  async untilBusy(): Promise<void> {
    const file = `/sys/block/ublkb${this.id}/inflight`;
    const isBusy = () => /[1-9]/.test(readFileSync(file, "utf8"));
    await until(`requests of device ${this.id}`, isBusy);
  }

  /** kill -9, and wait until the kernel has noticed. */
  async killServer(): Promise<void> {
    const thaw = await freeze(this.id);
    try {
      process.kill(await this.serverPid(), "SIGKILL");
      await until("the server is gone", async () => {
        const { state, serverPid } = await this.report();
        return state !== "LIVE" && serverPid === null;
      });
    } finally {
      thaw();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A server that does not answer would make every other way of removing the device wait for it.
    for (const pid of serverPids(this.id)) peek(() => process.kill(pid, "SIGKILL"));
    const traces = [`/sys/class/ublk-char/ublkc${this.id}`, `/run/ublk-bun/${this.id}.json`];
    if (traces.some((path) => existsSync(path))) await ublk("del", String(this.id), "--force");
  }
}

/**
 * Whether process `pid` runs this file. By inode: seen from here its name is another one where the process
 * has a mount namespace of its own.
 */
export function isProgramOf(pid: number, path: string): boolean {
  const [own, file] = [statSync(`/proc/${pid}/exe`), statSync(path)];
  return own.ino === file.ino && own.dev === file.dev;
}

/** Processes that are daemons of this device, by their open char device. */
export function serverPids(id: number): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid && holds(pid, `/dev/ublkc${id}`));
}

function holds(pid: number, path: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === path;
      } catch {
        return false;
      }
    });
  } catch {
    return false;
  }
}

/** The running kernel's driver knows this UBLK_F bit. */
export async function hasFeature(name: string): Promise<boolean> {
  return (await askFeatures()).includes(name);
}

/** Every device there is, whoever's: "ublkc0". */
export function deviceNames(): string[] {
  return list("/sys/class/ublk-char");
}

/** What is left of any device; all of it must be empty after a test. */
export function leftovers(): string[] {
  const daemons = readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid))
    .filter((pid) => commandLine(pid).startsWith("@ublk-bun"));
  return [
    ...deviceNames().map((name) => `device ${name}`),
    // What has happened is kept, whoever is gone.
    ...list("/run/ublk-bun")
      .filter((name) => !/^events\.ndjson(\.1)?$/.test(name))
      .map((name) => `file ${name}`),
    ...daemons.map((pid) => `process ${pid}`),
  ];
}

function list(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

function commandLine(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}
