// The kernel's ublk test scripts in a folder of their own, run one by one with our server or theirs.
// Needs root, the driver, and the cache that peer.ts fills.

import {
  copyFileSync,
  cpSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join, resolve } from "node:path";

import { kernelProblems } from "../guest/kernel-log.ts";
import { selftests } from "../peer.ts";
import { deviceNames, program, run, runOk } from "../program.ts";
import { Scratch } from "../scratch.ts";
import { scriptNames } from "./names.ts";
import { judge, type Outcome } from "./outcome.ts";

/** Whose server runs: ours behind test/support/kublk, or the kernel's own. */
export type Server = "ublk-bun" | "kublk";

/** How a script ended. */
export interface Result {
  readonly name: string;
  readonly outcome: Outcome;
  readonly seconds: number;
  /** Everything it printed, its exit status, what the kernel said about it, what it left behind. */
  readonly output: string;
}

const SHIM = resolve(import.meta.dir, "../kublk");
/** Half again of what the hungriest of them fill; /dev/shm has half the guest's memory. */
const DISK_BYTES = 1.5 * 1024 ** 3;
/** The slowest takes two minutes with their server in an emulated guest that has its CPUs to itself. */
const SCRIPT_SECONDS_MAX = 600;
const CLEANUP_SECONDS_MAX = 60;
/**
 * In front of fio, where little is enough: each job moves this much and verifies all of it, of the 256 or
 * 512 MiB that a script says. The device keeps its size, so places all over it are written.
 */
const SHORT_FIO = `#!/bin/sh
PATH=\${PATH#*:}; exec fio "$@" --io_size=64M
`;

/** The folder; its scope's end undoes it all. */
export class Scripts implements AsyncDisposable {
  readonly #scratch: Scratch;
  readonly #path: string;

  private constructor(scratch: Scratch, path: string) {
    this.#scratch = scratch;
    this.#path = path;
  }

  /** `isShort`: see SHORT_FIO; the scripts themselves are the kernel's in any case. */
  static async open(server: Server, { isShort = false } = {}): Promise<Scripts> {
    const theirs = await selftests();
    // A real file system: their backing files want direct I/O and holes.
    const mkfs = ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,nodiscard"];
    const scratch = await Scratch.make(mkfs, DISK_BYTES);
    for (const file of readdirSync(theirs)) {
      if (file.endsWith(".sh") || file === "metadata_size") {
        copyFileSync(join(theirs, file), join(scratch.folder, file));
      }
    }
    cpSync(join(theirs, "trace"), join(scratch.folder, "trace"), { recursive: true });
    const kublk = server === "kublk" ? join(theirs, "kublk") : SHIM;
    symlinkSync(kublk, join(scratch.folder, "kublk"));
    const path = process.env["PATH"] ?? "";
    if (!isShort) return new Scripts(scratch, path);
    const short = join(scratch.folder, "short");
    mkdirSync(short);
    writeFileSync(join(short, "fio"), SHORT_FIO, { mode: 0o755 });
    return new Scripts(scratch, `${short}:${path}`);
  }

  /** Such as "null_01", in order. */
  get names(): string[] {
    return scriptNames(this.#scratch.folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scratch[Symbol.asyncDispose]();
  }

  /** Runs one script to its end, then removes whatever it left. */
  async run(name: string): Promise<Result> {
    const mark = `ublk-bun runs ${name} ${crypto.randomUUID()}`;
    writeFileSync("/dev/kmsg", `${mark}\n`);
    // A file, not a pipe: what it leaves running would hold a pipe open.
    const outputFile = join("/run", `${name}.out`);
    const output = openSync(outputFile, "w");
    // Devices that were there before are somebody else's.
    const before = deviceNames();
    const began = performance.now();
    const words = ["timeout", "-s", "KILL", String(SCRIPT_SECONDS_MAX), `./test_${name}.sh`];
    const child = Bun.spawn(["setsid", ...words], {
      cwd: this.#scratch.folder,
      env: { ...process.env, PATH: this.#path, UBLK_BUN_PROGRAM: program },
      stdio: ["ignore", output, output],
    });
    const exitCode = await child.exited;
    const seconds = Math.round((performance.now() - began) / 1000);
    killAll((pid) => sessionOf(pid) === child.pid);
    const left = await this.#cleanUp(before);
    const log = await runOk("dmesg");
    const problems = kernelProblems(log.slice(log.lastIndexOf(mark)));
    const said = readFileSync(outputFile, "utf8");
    rmSync(outputFile);
    const outcome = judge({ exitCode, output: said, problems, left });
    const notes = [...problems, ...left.map((what) => `left behind: ${what}`)];
    const text = [said.trim(), `exit status ${exitCode}`, ...notes].join("\n");
    return { name, outcome, seconds, output: text };
  }

  /** Kills servers and deletes devices, so that a failure does not spoil the next script. */
  async #cleanUp(before: readonly string[]): Promise<string[]> {
    const folder = join(this.#scratch.folder, "ublktest-dir");
    for (const place of mountPoints()) {
      if (place.startsWith(folder)) await run(["umount", "-l", place]);
    }
    const left = deviceNames().filter((name) => !before.includes(name));
    for (const name of left) {
      killAll((pid) => hasOpen(pid, (file) => file === `/dev/${name}`));
      const words = [program, "del", name.replace(/\D+/, ""), "--force"];
      await run(["timeout", "-s", "KILL", String(CLEANUP_SECONDS_MAX), ...words]);
    }
    // A server without a device would keep its files' space.
    killAll((pid) => hasOpen(pid, (file) => file.startsWith(`${folder}/`)));
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder);
    return left.map((name) => `device ${name}`);
  }
}

function mountPoints(): string[] {
  const lines = readFileSync("/proc/mounts", "utf8").trim().split("\n");
  return lines.map((line) => line.split(" ")[1] ?? "");
}

function killAll(isMeant: (pid: number) => boolean): void {
  for (const pid of readdirSync("/proc").map(Number)) {
    if (!Number.isInteger(pid) || pid === process.pid || !isMeant(pid)) continue;
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // Gone meanwhile.
    }
  }
}

function hasOpen(pid: number, isMeant: (file: string) => boolean): boolean {
  try {
    const folder = `/proc/${pid}/fd`;
    return readdirSync(folder).some((fd) => isMeant(readlinkSync(join(folder, fd))));
  } catch {
    return false;
  }
}

/** proc_pid_stat(5): the fourth field after the name, which may hold blanks. */
function sessionOf(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[3]);
  } catch {
    return 0;
  }
}
