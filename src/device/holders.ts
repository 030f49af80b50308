// Who holds a device: open files, mounts, swap, other block devices on top of it.

import { readdirSync, readFileSync, readlinkSync } from "../builtin.ts";
import { charPath, deviceNumber, diskAndPartitions } from "./disk.ts";
import { hasMapped, hasOpen, openDevices, peek, processIds, processName } from "./processes.ts";

/** "pid 12 (fio)" */
export const namedProcess = (pid: number) => `pid ${pid} (${processName(pid)})`;

/** Processes that hold the char device, our own left out. */
export function charHolders(id: number): number[] {
  const path = charPath(id);
  const number = deviceNumber(path);
  // DEL_DEV takes the node away first, and then waits for whoever still has it open.
  const isOpen = (pid: number) =>
    number === undefined ? hasOpen(pid, `${path} (deleted)`) : openDevices(pid).includes(number);
  return processIds().filter((pid) => pid !== process.pid && (isOpen(pid) || hasMapped(pid, path)));
}

/** True when `pid` holds the char device, as its server does. */
export function holdsChar(pid: number, id: number): boolean {
  const number = deviceNumber(charPath(id));
  return number !== undefined && openDevices(pid).includes(number);
}

/** Who holds the char device, in words; empty when nobody. */
export function describeCharHolders(id: number): string {
  return charHolders(id).map(namedProcess).join(", ");
}

/** Everybody who keeps the disk from being stopped, in words; empty when nobody. */
export function diskHolders(id: number): string[] {
  const parts = diskAndPartitions(id);
  const numbers = parts.flatMap(({ name }) => deviceNumber(`/dev/${name}`) ?? []);
  const pids = processIds();
  const openers = pids.filter(
    (pid) => pid !== process.pid && openDevices(pid).some((number) => numbers.includes(number)),
  );
  return [
    ...mountPoints(
      parts.map((part) => part.numbers),
      pids,
    ).map((where) => `mounted on ${where}`),
    ...openers.map((pid) => `open in ${namedProcess(pid)}`),
    ...parts.flatMap(({ name }) => stackedOn(name)),
    ...parts.flatMap(({ name }) => (isSwap(`/dev/${name}`) ? [`used as swap: /dev/${name}`] : [])),
  ];
}

/** Mount points of these "major:minor" numbers in every mount namespace there is. */
export function mountPoints(numbers: readonly string[], pids: readonly number[]): string[] {
  const namespaces = new Map<string, number>();
  for (const pid of pids) {
    const namespace = peek(() => readlinkSync(`/proc/${pid}/ns/mnt`));
    if (namespace !== undefined && !namespaces.has(namespace)) namespaces.set(namespace, pid);
  }
  const found = [...namespaces.values()].flatMap((pid) => mountsOf(pid, numbers));
  return [...new Set(found)];
}

/** Mount points of these numbers as process `pid` sees them. Source: proc_pid_mountinfo(5). */
export function mountsOf(pid: number | "self", numbers: readonly string[]): string[] {
  const text = peek(() => readFileSync(`/proc/${pid}/mountinfo`, "utf8")) ?? "";
  return text.split("\n").flatMap((line) => {
    const [, , number, , where] = line.split(" ");
    if (number === undefined || where === undefined || !numbers.includes(number)) return [];
    // Blanks and the like stand as three octal digits.
    return where.replaceAll(/\\(\d{3})/g, (_all, octal) => String.fromCharCode(parseInt(octal, 8)));
  });
}

function stackedOn(name: string): string[] {
  const holders = peek(() => readdirSync(`/sys/class/block/${name}/holders`)) ?? [];
  return [...holders, ...loopsOver(`/dev/${name}`)].map((holder) => `used by /dev/${holder}`);
}

/** A loop device is nobody's holder: only its own folder names what it lies on. */
function loopsOver(path: string): string[] {
  const disks = peek(() => readdirSync("/sys/block")) ?? [];
  return disks
    .filter((disk) => disk.startsWith("loop"))
    .filter((loop) => {
      const file = peek(() => readFileSync(`/sys/block/${loop}/loop/backing_file`, "utf8"));
      return file?.trim() === path;
    });
}

function isSwap(path: string): boolean {
  const swaps = peek(() => readFileSync("/proc/swaps", "utf8")) ?? "";
  return swaps.split("\n").some((line) => line.startsWith(`${path} `));
}
