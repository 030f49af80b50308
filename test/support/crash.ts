// What the recovery tests do to a server and its disk: kill, watch, read in the background.

import { readdirSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";

import { peek } from "../../src/device/processes.ts";
import { parseRecord, recordText as textOf } from "../../src/device/record-text.ts";
import type { DeviceRecord } from "../../src/device/store.ts";
import { freeze, isFragile } from "./fragile.ts";
import { program, runOk, serverPids, TestDevice, until } from "./program.ts";

const LOOKS_AT_REST = 5;

export const recordPath = (id: number) => `/run/ublk-bun/${id}.json`;
export const recordText = (id: number) => readFileSync(recordPath(id), "utf8");

/** Lets the record say something else, with a checksum that fits. */
export function changeRecord(id: number, change: (record: DeviceRecord) => DeviceRecord): void {
  writeFileSync(recordPath(id), textOf(change(parseRecord(recordText(id), id))));
}

/** What a fault_inject has swallowed, its next server shall not swallow again. */
export function mendTarget(id: number): void {
  changeRecord(id, (record) => ({ ...record, spec: { ...record.spec, faultAtBytes: 2 ** 37 } }));
}

/** kill -9 for whoever serves device `id`, without waiting for anything. */
export function killNow(id: number): number {
  const [pid] = serverPids(id);
  if (pid === undefined) throw new Error(`nobody serves device ${id}`);
  process.kill(pid, "SIGKILL");
  return pid;
}

/**
 * Calls `kill`, which ends the server of device `id` while `load` reads and writes it. Where the kernel is
 * fragile the load pauses until its server is dead, and what it sends then waits for the next one.
 */
export async function underLoad<T>(
  id: number,
  load: readonly Background[],
  kill: () => T,
): Promise<T> {
  if (!isFragile) return kill();
  for (const each of load) each.kill("SIGSTOP");
  // A thread stops when it comes out of the kernel: until then it may be sending requests.
  await until("the load stops", () => load.every(({ pid }) => isStopped(pid)));
  const thaw = await freeze(id);
  try {
    await untilAtRest(id);
    const servers = serverPids(id);
    const result = kill();
    // A server that dies of SIGSEGV takes its time; somebody may have the next one ready.
    await until("the server is dead", () => isLeft(id, servers)).catch((error: Error) => {
      throw new Error(`${error.message}\n${servers.map(threadsOf).join("")}${serverLog(id)}`);
    });
    return result;
  } finally {
    // What is frozen holds its disk for ever, mounted or not.
    thaw();
    for (const each of load) each.kill("SIGCONT");
  }
}

/** What each thread of a process that should have gone is doing. */
function threadsOf(pid: number): string {
  const folder = `/proc/${pid}/task`;
  const about = (id: string, name: string) =>
    peek(() => readFileSync(`${folder}/${id}/${name}`, "utf8").trim());
  return (peek(() => readdirSync(folder)) ?? [])
    .map((id) => `${id} ${about(id, "comm")} ${stateOf(`${folder}/${id}`)} ${about(id, "wchan")}\n`)
    .join("");
}

const serverLog = (id: number) => peek(() => readFileSync(`/run/ublk-bun/${id}.log`, "utf8")) ?? "";

/** Until no request comes or goes: of those that a queue holds back, none is in flight. */
async function untilAtRest(id: number): Promise<void> {
  let [last, alike] = ["", 0];
  await until(`device ${id} rests`, () => {
    const now = readFileSync(`/sys/block/ublkb${id}/stat`, "utf8");
    alike = now === last && inFlight(id) === 0 ? alike + 1 : 0;
    last = now;
    return alike === LOOKS_AT_REST;
  });
}

/** Whether the kernel knows that none of `servers` serves the device any more. */
async function isLeft(id: number, servers: readonly number[]): Promise<boolean> {
  const { state, serverPid } = await new TestDevice(id).report();
  const isServed = state === "LIVE" && serverPid !== null;
  return state === "QUIESCED" || (isServed && !servers.includes(serverPid));
}

/** SIGTERMs to a server that has refused one, until two have come within its ten seconds and it lets go. */
export async function signalUntilLetGo(id: number, pid: number): Promise<void> {
  const isLettingGo = () => serverLog(id).includes("letting go");
  const refusals = () => serverLog(id).split("goes on serving").length;
  const before = refusals();
  process.kill(pid, "SIGTERM");
  await until("a second signal or refusal", () => isLettingGo() || refusals() > before);
  if (!isLettingGo()) process.kill(pid, "SIGTERM");
}

/** A command that goes on while the test does something else. */
export interface Background extends AsyncDisposable {
  readonly pid: number;
  readonly running: boolean;
  /** What it has written so far. */
  readonly stdout: () => string;
  readonly stderr: () => string;
  kill(signal: NodeJS.Signals): void;
  readonly ended: Promise<{ exitCode: number; stdout: string; stderr: string }>;
}

export function start(...command: string[]): Background {
  const child = Bun.spawn(command, { stdio: ["ignore", "pipe", "pipe"] });
  const written = { stdout: "", stderr: "" };
  const collect = async (from: keyof typeof written) => {
    const decoder = new TextDecoder();
    for await (const chunk of child[from]) written[from] += decoder.decode(chunk, { stream: true });
  };
  const ended = Promise.all([collect("stdout"), collect("stderr"), child.exited]).then(
    ([, , exitCode]) => ({ exitCode, ...written }),
  );
  return {
    pid: child.pid,
    get running() {
      return child.exitCode === null && child.signalCode === null;
    },
    stdout: () => written.stdout,
    stderr: () => written.stderr,
    kill: (signal) => child.kill(signal),
    ended,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      // One that waits for a disk nobody serves ends with the disk, which may be next to go.
      await Promise.race([child.exited, Bun.sleep(5000)]);
    },
  };
}

/** `ublk-bun WORD…` in the background. */
export const startUblk = (...words: string[]) => start(program, ...words);

/** dd's words for one direct 4 KiB request at block `block` of disk `path`. */
export function ddWords(path: string, block: number, direction: "read" | "write" = "read") {
  const files =
    direction === "read"
      ? [`if=${path}`, "of=/dev/null", "iflag=direct", `skip=${block}`]
      : ["if=/dev/zero", `of=${path}`, "oflag=direct", "conv=notrunc", `seek=${block}`];
  return ["dd", ...files, "bs=4k", "count=1", "status=none"];
}

/** One direct read, which must succeed. */
export const readBlock = (path: string, block = 0) => runOk(...ddWords(path, block));

/** Processes that serve a device, begin to, or end, by the name that they go by. */
export function daemonPids(): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").startsWith("@ublk-bun");
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Requests that the block layer has given to the disk's driver. */
export function inFlight(id: number): number {
  const words = readFileSync(`/sys/block/ublkb${id}/inflight`, "utf8").trim().split(/\s+/);
  return words.reduce((sum, word) => sum + Number(word), 0);
}

/** The state letter of a process or thread, see proc_pid_stat(5); undefined when it is gone. */
function stateOf(folder: string): string | undefined {
  const stat = peek(() => readFileSync(`${folder}/stat`, "utf8"));
  return stat?.[stat.lastIndexOf(")") + 2];
}

/** Whether none of its threads runs or waits for anything: they are stopped, or at their end. */
function isStopped(pid: number): boolean {
  const folder = `/proc/${pid}/task`;
  const threads = peek(() => readdirSync(folder)) ?? [];
  return threads.every((id) => !/[RSD]/.test(stateOf(`${folder}/${id}`) ?? ""));
}

/** Waits until a reading dd sits in its request: one that the kernel keeps back is not "in flight". */
export const untilWaiting = ({ pid }: Background, path: string) =>
  until("dd waits", () => {
    try {
      return stateOf(`/proc/${pid}`) === "D" && readlinkSync(`/proc/${pid}/fd/0`) === path;
    } catch {
      return false;
    }
  });

/** Waits until `count` requests are in flight. */
export const untilInFlight = (id: number, count: number) =>
  until(`${count} in flight`, () => inFlight(id) === count);

/** Moments from the first to the last of something that takes so long, and a little beyond. */
export const moments = (milliseconds: number, count: number) =>
  Array.from({ length: count }, (_, i) => (milliseconds * 1.1 * (i + 0.5)) / count);

export const median = (numbers: readonly number[]) =>
  numbers.toSorted((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
