// What /proc tells of other processes: whether one lives, and what it holds open.

import { basename, readdirSync, readFileSync, readlinkSync, statSync } from "../builtin.ts";

/** An errand in /proc may lose its process at any moment: then there is nothing to say of it. */
export function peek<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch {
    return undefined;
  }
}

const PF_EXITING = 0x4;
const SIGKILL_BIT = 1n << 8n;

/** The process's name, or "?". */
export function processName(pid: number): string {
  return peek(() => readFileSync(`/proc/${pid}/comm`, "utf8").trim()) ?? "?";
}

/** True while `pid` runs and is not on its way out: a killed process takes a moment to be gone. */
export function isAlive(pid: number): boolean {
  if (pid <= 0) return false;
  const stat = peek(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  const status = peek(() => readFileSync(`/proc/${pid}/status`, "utf8"));
  if (stat === undefined || status === undefined) return false;
  // The name stands in parentheses and may hold anything; what follows is separated by spaces.
  const [state, ...rest] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  if (state === "Z" || state === "X" || (Number(rest[5]) & PF_EXITING) !== 0) return false;
  const pending = [...status.matchAll(/^(?:SigPnd|ShdPnd):\s*([0-9a-f]+)$/gm)];
  return !pending.some(([, mask]) => (BigInt(`0x${mask}`) & SIGKILL_BIT) !== 0n);
}

/** Every process's id. */
export function processIds(): number[] {
  return (peek(() => readdirSync("/proc")) ?? []).map(Number).filter(Number.isInteger);
}

/** Other processes that have the file at `path` open. */
export function openersOf(path: string): number[] {
  return processIds().filter((pid) => {
    const fds = peek(() => readdirSync(`/proc/${pid}/fd`)) ?? [];
    return pid !== process.pid && fds.some((fd) => isOpenAs(`/proc/${pid}/fd/${fd}`, path));
  });
}

/** By inode: in another mount namespace the way to the same file begins elsewhere. */
function isOpenAs(link: string, path: string): boolean {
  const there = peek(() => readlinkSync(link));
  if (!there?.endsWith(`/${basename(path)}`)) return false;
  const ours = peek(() => statSync(path));
  const theirs = peek(() => statSync(link));
  return ours !== undefined && theirs?.ino === ours.ino && theirs.dev === ours.dev;
}

/** The device numbers of what a process holds open below /dev; nothing else is even looked at. */
export function openDevices(pid: number): number[] {
  const folder = `/proc/${pid}/fd`;
  return (peek(() => readdirSync(folder)) ?? []).flatMap((fd) => {
    const path = peek(() => readlinkSync(`${folder}/${fd}`));
    // In a container, or in a mount namespace of its own, the way there has another beginning.
    if (!path?.startsWith("/dev/") && !/\/ublk[^/]*$/.test(path ?? "")) return [];
    return peek(() => statSync(`${folder}/${fd}`).rdev) ?? [];
  });
}

/**
 * True when one of the process's descriptors shows as a file of `path`'s name; a removed file's ends
 * in " (deleted)".
 */
export function hasOpen(pid: number, path: string): boolean {
  const folder = `/proc/${pid}/fd`;
  const names = peek(() => readdirSync(folder)) ?? [];
  const end = `/${basename(path)}`;
  return names.some((fd) => peek(() => readlinkSync(`${folder}/${fd}`))?.endsWith(end) ?? false);
}

/** True when the process has a file of `path`'s name mapped into its memory. */
export function hasMapped(pid: number, path: string): boolean {
  const maps = peek(() => readFileSync(`/proc/${pid}/maps`, "utf8"));
  const end = `/${basename(path)}`;
  return maps?.split("\n").some((line) => line.endsWith(end)) ?? false;
}
