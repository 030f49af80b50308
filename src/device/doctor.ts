// doctor: what is wrong with this host or with what is left on it, each with its remedy.

import { release } from "node:os";

import { join, readdirSync, readFileSync, statfsSync, unlinkSync } from "../builtin.ts";
import type { DevInfo } from "../control/commands/dev-info.ts";
import { getDevInfo } from "../control/commands/index.ts";
import { Control } from "../control/control.ts";
import { messageOf, UblkError } from "../errors.ts";
import { liburingPath, loadLiburing } from "../ffi/liburing.ts";
import { charPath, deviceIds, diskPath } from "./disk.ts";
import { describeCharHolders, diskHolders } from "./holders.ts";
import { isMadeByUs, isOurs } from "./identity.ts";
import { serverPid } from "./inspect.ts";
import { isAlive, peek } from "./processes.ts";
import { bootId, type Store } from "./store.ts";

/** Something that is not as it should be. */
export interface Finding {
  /** Which check found it: stable words for programs. */
  readonly check: string;
  readonly what: string;
  readonly remedy: string;
  /** Mends it; only where that cannot lose data. */
  readonly fix?: () => void;
}

export interface DoctorOptions {
  readonly store: Store;
  readonly timeoutMs: number;
  readonly liburing: string;
}

/** Looks at everything; changes nothing. */
export async function examine(options: DoctorOptions): Promise<Finding[]> {
  const control = await openControl(options);
  const host = [...kernelFindings(release()), ...hostFindings(), ...capabilityFindings()];
  if (!(control instanceof Control)) return [...host, ...control, ...staleFindings(options.store)];
  using opened = control;
  return [
    ...host,
    ...(await deviceFindings(opened, options.store)),
    ...staleFindings(options.store),
  ];
}

/**
 * Linux 6.7 to 6.14.5 crashes when a server ends while a request is being given to it (CVE-2025-37906);
 * mended in 6.12.114, too. What a vendor has mended in a kernel of his own ("6.12.0-") its name does not tell.
 */
export function crashesUnderLoad(name: string): boolean {
  const [major = 0, minor = 0, patch = 0] = name.split(/[.+-]/).map(Number);
  if (major !== 6) return false;
  if (minor === 12) return patch > 0 && patch < 114;
  if (minor === 14) return patch > 0 && patch < 6;
  return minor === 13 || (minor >= 7 && minor <= 11);
}

/** Kernels whose ublk is known to harm: sources in docs/troubleshooting.md. */
const BAD_KERNELS: readonly { readonly is: (name: string) => boolean; readonly what: string }[] = [
  { is: crashesUnderLoad, what: "it can crash when a server ends under load (CVE-2025-37906)" },
  {
    is: (name) => /^6\.17\.0-\d+-(aws|azure)/.test(name),
    what: "it crashes when a device is added",
  },
  {
    is: (name) => /^6\.18\.40(\D|$)/.test(name),
    what: "it can lose a control command, which then times out",
  },
  {
    is: (name) => name.startsWith("7.0."),
    what: "it can lose a control command, which then times out",
  },
];

/** What is known of a kernel of this name, as uname -r gives it. */
export function kernelFindings(name: string): Finding[] {
  const [major = 0, minor = 0] = name.split(".").map(Number);
  if (major < 6) {
    const what = `Linux ${name} has no ublk`;
    return [{ check: "kernel", what, remedy: "Linux 6.1 or later is needed" }];
  }
  if (major === 6 && minor === 0) {
    const what = `Linux ${name} has no user recovery`;
    return [{ check: "kernel", what, remedy: "use Linux 6.1 or later" }];
  }
  const bad = BAD_KERNELS.find(({ is }) => is(name));
  if (bad === undefined) return [];
  return [{ check: "kernel", what: `Linux ${name}: ${bad.what}`, remedy: "use another kernel" }];
}

const read = (path: string) => peek(() => readFileSync(path, "utf8").trim());
const DEVTMPFS = [0x01021994, 0x858458f6]; // tmpfs, ramfs: what statfs tells of devtmpfs

function hostFindings(): Finding[] {
  const findings: Finding[] = [];
  const disabled = read("/proc/sys/kernel/io_uring_disabled");
  if (disabled === "1" || disabled === "2") {
    findings.push({
      check: "io_uring",
      what: `io_uring is disabled: kernel.io_uring_disabled is ${disabled}`,
      remedy: "run: sysctl kernel.io_uring_disabled=0",
    });
  }
  const type = peek(() => statfsSync("/dev").type);
  if (type !== undefined && !DEVTMPFS.includes(type)) {
    findings.push({
      check: "udev",
      what: "/dev is no devtmpfs: device nodes do not appear by themselves",
      remedy: "run: mount -t devtmpfs devtmpfs /dev",
    });
  }
  const limit = /^Max locked memory\s+(\d+)/m.exec(read("/proc/self/limits") ?? "")?.[1];
  if (limit !== undefined && Number(limit) < MEMLOCK_BYTES_MIN && !hasCapability(CAP.IPC_LOCK)) {
    findings.push({
      check: "memlock",
      what: `only ${limit} bytes may be locked: rings may not fit`,
      remedy: "raise the limit: ulimit -l unlimited",
    });
  }
  return findings;
}

const MEMLOCK_BYTES_MIN = 8 * 1024 ** 2;
const CAP = { IPC_LOCK: 14n, SYS_ADMIN: 21n, SYS_RESOURCE: 24n } as const;

function hasCapability(bit: bigint): boolean {
  const mask = /^CapEff:\s*([0-9a-f]+)/m.exec(read("/proc/self/status") ?? "")?.[1] ?? "0";
  return ((BigInt(`0x${mask}`) >> bit) & 1n) === 1n;
}

function capabilityFindings(): Finding[] {
  const remedy = "run it as root, outside of containers that take capabilities away";
  const findings: Finding[] = [];
  if (!hasCapability(CAP.SYS_ADMIN)) {
    const what = "CAP_SYS_ADMIN is missing: devices cannot be made or changed";
    findings.push({ check: "capabilities", what, remedy });
  }
  if (!hasCapability(CAP.SYS_RESOURCE)) {
    const what =
      "CAP_SYS_RESOURCE is missing: a server cannot be kept from waiting for its own disk";
    findings.push({ check: "capabilities", what, remedy });
  }
  return findings;
}

async function openControl({ timeoutMs, liburing }: DoctorOptions): Promise<Control | Finding[]> {
  try {
    const library = loadLiburing(liburingPath(liburing || undefined));
    return await Control.open({ liburing: library, timeoutMs });
  } catch (error) {
    const remedy = (error instanceof UblkError ? error.hint : undefined) ?? "see: dmesg";
    return [{ check: "driver", what: messageOf(error), remedy }];
  }
}

/** Devices whose server is gone, and who holds them. */
async function deviceFindings(control: Control, store: Store): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const id of deviceIds()) {
    try {
      const info = await control.run(getDevInfo, id, undefined);
      if (info.state === "DEAD") {
        findings.push({
          check: "dead",
          what: `Device ${id} is DEAD: its disk is gone, and it keeps its number`,
          remedy: `run: ublk-bun del ${id}`,
        });
        continue;
      }
      if (serverPid(info) > 0) continue;
      const holders = describeCharHolders(id);
      if (holders !== "") {
        findings.push({
          check: "held",
          what: `Device ${id} has no server, and cannot get one while ${charPath(id)} is held by ${holders}`,
          remedy: `end that process, then run: ublk-bun recover ${id}`,
        });
        continue;
      }
      const users = diskHolders(id);
      const used = users.length === 0 ? "" : `, and is ${users.join(", ")}`;
      findings.push({
        check: "orphaned",
        what: `Device ${id} is ${info.state} and has no server: I/O to ${diskPath(id)} waits or fails${used}`,
        remedy: cureOfOrphan(info, store),
      });
    } catch (error) {
      findings.push({
        check: "device",
        what: messageOf(error),
        remedy: `see: ublk-bun list ${id}`,
      });
    }
  }
  return findings;
}

function cureOfOrphan(info: DevInfo, store: Store): string {
  const { id } = info;
  if (isOurs(store.loadIfUsable(id), info)) return `run: ublk-bun recover ${id}`;
  if (!isMadeByUs(info)) {
    return `it is not ours: recover it with the tool that made it, or: ublk-bun del ${id} --force`;
  }
  return `its record is lost; run, with what it was added with: ublk-bun recover ${id} --target TARGET …`;
}

/** What lies in the run folder and describes nothing. */
function staleFindings(store: Store): Finding[] {
  const unsafe = unsafeFolder(store);
  if (unsafe !== undefined) return [unsafe];
  const present = new Set(deviceIds());
  const records = store.ids().flatMap((id) => staleRecord(store, id, present.has(id)));
  const names = peek(() => readdirSync(store.dir)) ?? [];
  return [...records, ...names.flatMap((name) => staleFile(store, name))];
}

function unsafeFolder(store: Store): Finding | undefined {
  try {
    store.assertSafe();
    return undefined;
  } catch (error) {
    const remedy = (error instanceof UblkError ? error.hint : undefined) ?? "look at the folder";
    return { check: "run-folder", what: messageOf(error), remedy };
  }
}

function staleRecord(store: Store, id: number, exists: boolean): Finding[] {
  const check = "record";
  try {
    const record = store.load(id);
    if (record === undefined) return [];
    if (record.bootId !== bootId()) {
      // Its device went with that boot.
      const what = `the record of device ${id} is of an earlier boot`;
      return [{ check, what, remedy: "doctor --fix removes it", fix: () => store.remove(id) }];
    }
    if (exists) return [];
    const what = `there is a record of device ${id}, but no such device`;
    return [{ check, what, remedy: `run: ublk-bun del ${id}` }];
  } catch (error) {
    const remedy = (error instanceof UblkError ? error.hint : undefined) ?? "look at the file";
    return [{ check, what: messageOf(error), remedy }];
  }
}

/** Locks, sockets and half-written records of processes that are gone. */
function staleFile(store: Store, name: string): Finding[] {
  const path = join(store.dir, name);
  const [, id, kind] = /^(\d+)\.(lock|sock)$/.exec(name) ?? [];
  const writer = /^\d+\.json\.(\d+)\.tmp$/.exec(name)?.[1];
  const isStale =
    (kind === "lock" && !store.isLocked(Number(id))) ||
    (kind === "sock" && !store.has(Number(id)) && !deviceIds().includes(Number(id))) ||
    (writer !== undefined && !isAlive(Number(writer)));
  if (!isStale) return [];
  const remedy = "doctor --fix removes it";
  const fix = kind === "lock" ? () => removeLock(store, Number(id)) : () => removeFile(path);
  return [{ check: "leftover", what: `${path} is nobody's any more`, remedy, fix }];
}

const removeFile = (path: string) => void peek(() => unlinkSync(path));

/** By taking it and giving it back: a command that has it by now keeps it. */
const removeLock = (store: Store, id: number) =>
  void peek(() => store.lock(id, "doctor")[Symbol.dispose]());
