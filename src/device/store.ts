// Recovery records and device locks in the run folder: what a new server must know of a dead one.

import {
  accessSync,
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  unlinkSync,
} from "../builtin.ts";
import { EXIT, messageOf, UblkError } from "../errors.ts";
import { flock, LOCK, O, OK } from "../ffi/libc.ts";
import type { FilterSpec } from "../filter.ts";
import type { Mode } from "../queue/protocol.ts";
import type { Spec } from "../target.ts";
import { tryWrite, writeAll } from "../write.ts";
import { openToAppend } from "./append.ts";
import { EventLog } from "./events.ts";
import { isAlive, openersOf, peek } from "./processes.ts";
import { parseRecord, recordText } from "./record-text.ts";

export const RUN_DIR = "/run/ublk-bun";
const LOCK_RETRY_MS = 20;
const WRITABLE_BY_OTHERS = 0o022;
const STICKY = 0o1000;
/** How often, a millisecond apart, a lock file without a name is looked at again. */
const HOLDER_LOOKS = 100;

/** How the kernel treats I/O while no server is there; docs/recovery.md. */
export type Recovery = "reissue" | "queue" | "fail" | "none";

/** One device's record, `N.json` in the run folder. No secrets: it is only protected by its mode. */
export interface DeviceRecord {
  /** 2 with filters: a program that does not know them must not serve the disk without. */
  readonly version: 1 | 2;
  readonly id: number;
  /** The 64 bits given to ADD_DEV, as hexadecimal: whose device this is. */
  readonly identity: string;
  readonly bootId: string;
  readonly target: string;
  readonly spec: Spec;
  /** What lies over the target, the lowest first; undefined: nothing. */
  readonly filters?: readonly FilterSpec[];
  /** What the target found out when it was last opened; for people. */
  readonly facts?: Spec;
  readonly queues: number;
  readonly depth: number;
  readonly ioBufBytes: number;
  readonly ioDescBytes: number;
  /** How data travels. */
  readonly mode: Mode;
  /** UBLK_F bits as the kernel returned them, hexadecimal. */
  readonly flags: string;
  readonly recovery: Recovery;
  /** How often the device has been recovered. */
  readonly restarts: number;
  readonly stallTimeoutMs: number;
  /** --liburing, where it was given. */
  readonly liburing: string;
  /** Where its daemon writes its log. */
  readonly log: string;
  /** The executable that added or last recovered it. */
  readonly program: string;
}

/** The version to give a record with these filters. */
export const recordVersion = ({ filters = [] }: Pick<DeviceRecord, "filters">): 1 | 2 =>
  filters.length > 0 ? 2 : 1;

/** This boot of this machine: a record of another one describes a device that is gone. */
export function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

/** A held lock; its descriptor can be handed to the daemon. */
export interface DeviceLock extends Disposable {
  readonly fd: number;
}

export class Store {
  readonly dir: string;
  readonly events: EventLog;

  /** `dir` is made when it is missing, readable by its owner alone. */
  constructor(dir: string = RUN_DIR) {
    this.dir = dir;
    this.events = new EventLog(dir);
  }

  logPath(id: number): string {
    return `${this.dir}/${id}.log`;
  }

  recordPath(id: number): string {
    return `${this.dir}/${id}.json`;
  }

  /** Where the device's daemon hears requests. */
  socketPath(id: number): string {
    return `${this.dir}/${id}.sock`;
  }

  /** As long as it is there, the device has no server on purpose. */
  restPath(id: number): string {
    return `${this.dir}/${id}.rest`;
  }

  /** Makes the folder. Throws UblkError where it cannot, or cannot write in it. */
  prepare(): void {
    try {
      mkdirSync(this.dir, { recursive: true, mode: 0o700 });
      accessSync(this.dir, OK.W | OK.X);
    } catch (cause) {
      throw new UblkError(`Cannot use the run folder "${this.dir}": ${messageOf(cause)}`, {
        cause,
        hint: "run it as root, or give a writable folder with --run-dir",
      });
    }
    this.assertSafe();
  }

  /**
   * A record says what a server shall open as root: nobody else may have put it there. Throws UblkError where
   * somebody could.
   */
  assertSafe(): void {
    const stat = statSync(this.dir, { throwIfNoEntry: false });
    if (stat === undefined) return;
    const isOthers = isAnothers(stat.uid);
    const isOpen = (stat.mode & WRITABLE_BY_OTHERS) !== 0 && (stat.mode & STICKY) === 0;
    if (!isOthers && !isOpen) return;
    const why = isOthers ? `it belongs to user ${stat.uid}` : "others may write in it";
    throw new UblkError(`The run folder "${this.dir}" is not safe: ${why}`, {
      hint: `make it your own (chown, chmod go-w), or give another one with --run-dir`,
    });
  }

  /** Every record's id, in order. */
  ids(): number[] {
    if (!existsSync(this.dir)) return [];
    return readdirSync(this.dir)
      .flatMap((name) => /^(\d+)\.json$/.exec(name)?.[1] ?? [])
      .map(Number)
      .toSorted((a, b) => a - b);
  }

  /** The record, or undefined. Throws UblkError (exit 6) when it is there but not usable. */
  load(id: number): DeviceRecord | undefined {
    this.assertSafe();
    const path = this.recordPath(id);
    let text: string;
    try {
      text = readOwnFile(path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw unusable(id, path, messageOf(cause));
    }
    try {
      return parseRecord(text, id);
    } catch (cause) {
      throw unusable(id, path, messageOf(cause));
    }
  }

  /** The record; undefined as well when it is there but not usable. */
  loadIfUsable(id: number): DeviceRecord | undefined {
    try {
      return this.load(id);
    } catch {
      return undefined;
    }
  }

  /** True when there is a record, readable or not. */
  has(id: number): boolean {
    return lstatSync(this.recordPath(id), { throwIfNoEntry: false }) !== undefined;
  }

  /** Writes the record so that a crash leaves the old or the new one, never half of it. */
  save(
    record: DeviceRecord,
    hint = "make room there, or give another folder with --run-dir",
  ): void {
    const path = this.recordPath(record.id);
    const temporary = `${path}.${process.pid}.tmp`;
    let fd = -1;
    try {
      // A new file, never one that somebody else has put there under its name.
      unlinkIfThere(temporary);
      fd = openSync(temporary, "wx", 0o600);
      writeAll(fd, recordText(record));
      fsyncSync(fd);
      renameSync(temporary, path);
    } catch (cause) {
      if (fd >= 0) peek(() => unlinkIfThere(temporary));
      throw new UblkError(`Cannot write the record "${path}": ${messageOf(cause)}`, {
        cause,
        hint,
      });
    } finally {
      if (fd >= 0) closeSync(fd);
    }
    // It is there: what cannot be synced now is no failure any more.
    peek(() => {
      const folder = openSync(this.dir, "r");
      try {
        fsyncSync(folder);
      } finally {
        closeSync(folder);
      }
    });
  }

  /** Removes the record, the log, the socket, the mark, and what is left of records half written. */
  remove(id: number): void {
    const log = this.logPath(id);
    const others = [log, `${log}.1`, this.socketPath(id), this.restPath(id)];
    for (const path of [this.recordPath(id), ...others]) unlinkIfThere(path);
    // What a server that was killed in the middle of writing has left.
    const half = new RegExp(`^${id}\\.json\\.\\d+\\.tmp$`);
    const names = existsSync(this.dir) ? readdirSync(this.dir) : [];
    for (const name of names.filter((each) => half.test(each)))
      unlinkIfThere(`${this.dir}/${name}`);
  }

  /**
   * Takes the device's lock, which whoever changes a device holds. It is released by disposing it,
   * or when the last process that has its descriptor ends. Throws UblkError (exit 5) naming the holder: `pid`,
   * as long as that lives.
   */
  lock(id: number, verb: string, pid = process.pid): DeviceLock {
    return this.#lock(`${id}.lock`, `${pid} ${verb}`, (holder) => lockedError(id, holder));
  }

  /** As `lock`, but waits for whoever has it, `ms` milliseconds at most. */
  lockSoon(id: number, verb: string, ms: number, signal?: AbortSignal): Promise<DeviceLock> {
    return soon(ms, () => this.lock(id, verb), signal);
  }

  /** Held while the files of a new device are compared with those of all others, and claimed. */
  lockFiles(timeoutMs: number): Promise<DeviceLock> {
    return soon(timeoutMs, () =>
      this.#lock("files.lock", `${process.pid} claim`, filesLockedError),
    );
  }

  /** Held by the one `watch` of this run folder. */
  lockWatch(): DeviceLock {
    return this.#lock("watch.lock", `${process.pid} watch`, watchLockedError);
  }

  /** True while somebody has the device's lock. Asks without taking it: that would refuse others. */
  isLocked(id: number): boolean {
    const stat = statSync(`${this.dir}/${id}.lock`, { throwIfNoEntry: false });
    if (stat === undefined) return false;
    const locks = peek(() => readFileSync("/proc/locks", "utf8")) ?? "";
    // "1: FLOCK  ADVISORY  WRITE 708 00:13:12345 0 EOF"; the file system's number is left out, for
    // some show another one than stat(2) does.
    return new RegExp(`^\\d+: FLOCK .*:${stat.ino} 0 EOF$`, "m").test(locks);
  }

  #lock(name: string, holderText: string, onHeld: (holder: string) => UblkError): DeviceLock {
    const path = `${this.dir}/${name}`;
    for (;;) {
      const fd = openToAppend(path);
      if (flock(fd, LOCK.EX | LOCK.NB) < 0) {
        const holder = lockHolder(fd, path);
        closeSync(fd);
        throw onHeld(holder);
      }
      // Its last holder may have removed the file between our open and our lock.
      if (isSameFile(fd, path)) {
        // Its name is for others to read; on a full file system the lock must do without.
        ftruncateSync(fd);
        tryWrite(fd, holderText);
        return { fd, [Symbol.dispose]: () => this.#unlock(fd, path) };
      }
      closeSync(fd);
    }
  }

  #unlock(fd: number, path: string): void {
    // Released it must be, also where nothing can be removed.
    try {
      if (isSameFile(fd, path)) peek(() => unlinkIfThere(path));
    } finally {
      closeSync(fd);
    }
  }
}

/** What `take` returns, as soon as it does not throw UblkError any more; its last one at the deadline. */
async function soon<T>(timeoutMs: number, take: () => T, signal?: AbortSignal): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    try {
      return take();
    } catch (error) {
      if (!(error instanceof UblkError) || performance.now() > deadline) throw error;
    }
    await Bun.sleep(LOCK_RETRY_MS);
    signal?.throwIfAborted();
  }
}

function filesLockedError(holder: string): UblkError {
  return new UblkError(`The files of a device are being claimed by ${holder}`, {
    exitCode: EXIT.busy,
    hint: "try again, or with a longer --timeout",
  });
}

function watchLockedError(holder: string): UblkError {
  return new UblkError(`This host's disks are watched already, by ${holder}`, {
    exitCode: EXIT.busy,
    hint: "one is enough; to end it: kill, or systemctl stop ublk-bun-watch",
  });
}

function lockedError(id: number, holder: string): UblkError {
  return new UblkError(`Device ${id} is being changed by ${holder}`, {
    exitCode: EXIT.busy,
    hint: "wait for it to end, then look at: ublk-bun list",
  });
}

/** Who has locked the file at `path`, open here as `fd`, in words. */
function lockHolder(fd: number, path: string): string {
  // Whoever has just taken the lock is about to write its name.
  for (let i = 0; i < HOLDER_LOOKS && fstatSync(fd).size === 0; i++) Bun.sleepSync(1);
  const [pid, verb] = readFileSync(fd, "utf8").split(" ");
  if (isAlive(Number(pid))) return `pid ${pid} (${verb})`;
  // A launcher that was killed has left the lock to its daemon.
  const heirs = openersOf(path);
  const name = heirs.length === 0 ? "somebody" : `pid ${heirs.join(", ")}`;
  return verb === undefined ? name : `${name} (${verb})`;
}

/** The text of a file that is this user's or root's, and no link: anybody can link in a /tmp. */
function readOwnFile(path: string): string {
  if (lstatSync(path).isSymbolicLink()) throw new Error("it is a symbolic link");
  const fd = openSync(path, O.RDONLY | O.NOFOLLOW | O.NONBLOCK);
  try {
    const { uid } = fstatSync(fd);
    if (isAnothers(uid)) throw new Error(`it belongs to user ${uid}`);
    return readFileSync(fd, "utf8");
  } finally {
    closeSync(fd);
  }
}

const isAnothers = (uid: number) => uid !== 0 && uid !== process.getuid?.();

function isSameFile(fd: number, path: string): boolean {
  const there = statSync(path, { throwIfNoEntry: false });
  return there !== undefined && there.ino === statSync(`/proc/self/fd/${fd}`).ino;
}

export function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}

function unusable(id: number, path: string, why: string): UblkError {
  return new UblkError(`The record "${path}" is not usable: ${why}`, {
    exitCode: EXIT.notRecoverable,
    hint:
      `the device is untouched; to say what it was made of: ublk-bun recover ${id} --target TARGET; ` +
      `to give its disk up: ublk-bun del ${id} --force`,
  });
}
