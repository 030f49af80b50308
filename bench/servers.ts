// In a guest: whoever can serve a setup, started side by side, each on a disk of its own.

import type { Mode, Setup } from "./matrix.ts";
import type { ServerName } from "./plan.ts";

export interface Server {
  readonly name: ServerName;
  readonly path: string;
  /** 0: the kernel itself. */
  readonly pid: number;
  stop(): void;
}

export const OURS = process.env["UBLK_BUN_PROGRAM"] ?? "dist/ublk-bun";
const RECOVER_TRIES_MAX = 100;
const RAM_DISKS = 4;
const RAM_DISK_MIB = 64;

const OUR_WORDS: Readonly<Record<Mode, readonly string[]>> = {
  copy: ["--copy"],
  "user-copy": ["--user-copy"],
  "auto-zc": ["--auto-zc"],
  batch: ["--copy", "--batch"],
  "batch auto-zc": ["--auto-zc", "--batch"],
};
const THEIR_WORDS: Readonly<Record<Mode, readonly string[]>> = {
  copy: [],
  "user-copy": ["-u"],
  "auto-zc": ["--auto_zc"],
  batch: ["-b"],
  "batch auto-zc": ["-b", "--auto_zc"],
};

export function sh(...command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command);
  if (exitCode === 0) return stdout.toString();
  throw new Error(`${command.join(" ")}: exit ${exitCode}\n${stdout}${stderr}`);
}

export const pidIn = (text: string) => Number(/daemon pid (\d+)/.exec(text)?.[1]);

/** Files below the disk: RAM disks from this number on. */
function files({ target }: Setup, first: number): string[] {
  if (target === "null") return [];
  return target === "loop" ? [`/dev/ram${first}`] : [`/dev/ram${first}`, `/dev/ram${first + 1}`];
}

export function ours(setup: Setup): Server {
  const words = files(setup, 0).flatMap((file) => ["-f", file]);
  const shape = ["-q", String(setup.queues), "-d", "128", ...OUR_WORDS[setup.mode]];
  const text = sh(OURS, "add", "--target", setup.target, "-n", "0", ...shape, ...words);
  const stop = () => void sh(OURS, "del", "0");
  return { name: "ublk-bun", path: "/dev/ublkb0", pid: pidIn(text), stop };
}

export function theirs(setup: Setup, kublk: string): Server {
  const words = files(setup, setup.target === "stripe" ? 2 : 1);
  const shape = ["-q", String(setup.queues), "-d", "128", ...THEIR_WORDS[setup.mode]];
  const text = sh(kublk, "add", "-t", setup.target, "-n", "1", "-r", "1", ...shape, ...words);
  const stop = () => void sh(kublk, "del", "-n", "1");
  return { name: "kublk", path: "/dev/ublkb1", pid: pidIn(text), stop };
}

export function recoverOurs(): void {
  sh(OURS, "recover", "0");
}

/** It is refused while the killed server is still on its way out. */
export function recoverTheirs(kublk: string): void {
  const words = ["recover", "-n", "1", "-t", "null", "-q", "1", "-d", "128", "-r", "1"];
  for (let tries = 0; tries < RECOVER_TRIES_MAX; tries++) {
    if (Bun.spawnSync([kublk, ...words]).exitCode === 0) return;
  }
  sh(kublk, ...words);
}

/** The kernel's own way to such a disk, without a server. */
function limits(setup: Setup): Server[] {
  if (setup.mode !== "copy" && setup.mode !== "auto-zc") return [];
  if (setup.target === "null" && setup.mode === "copy") {
    const shape = [`submit_queues=${setup.queues}`, "hw_queue_depth=128", "bs=4096"];
    sh("/sbin/modprobe", "null_blk", "nr_devices=1", ...shape);
    const stop = () => void sh("/sbin/modprobe", "-r", "null_blk");
    return [{ name: "null_blk", path: "/dev/nullb0", pid: 0, stop }];
  }
  if (setup.target !== "loop" || setup.mode !== "auto-zc") return [];
  sh("/sbin/modprobe", "loop");
  const words = ["--direct-io=on", "--find", "--show", "/dev/ram2"];
  const path = sh("/sbin/losetup", ...words).trim();
  return [
    { name: "kernel loop", path, pid: 0, stop: () => void sh("/sbin/losetup", "-d", path) },
    { name: "raw", path: "/dev/ram3", pid: 0, stop: () => {} },
  ];
}

/** Every server of a setup, up and ready; none, if one of them does not come up. */
export function startAll(setup: Setup, kublk: string): Server[] {
  const servers: Server[] = [];
  try {
    for (const start of [() => [ours(setup)], () => [theirs(setup, kublk)], () => limits(setup)]) {
      servers.push(...start());
    }
    return servers;
  } catch (error) {
    for (const { stop } of servers) stop();
    throw error;
  }
}

/** RAM disks, with memory behind every byte: what was never written costs less to read. */
export function makeRamDisks(): void {
  sh("/sbin/modprobe", "brd", `rd_nr=${RAM_DISKS}`, `rd_size=${RAM_DISK_MIB * 1024}`);
  for (let i = 0; i < RAM_DISKS; i++) {
    const words = ["if=/dev/urandom", `of=/dev/ram${i}`, "bs=1M", `count=${RAM_DISK_MIB}`];
    sh("dd", ...words, "oflag=direct", "status=none");
  }
}
