// What happens to devices, for machines: lines of JSON in the run folder, appended by whoever causes
// them. No command ever fails for an event that cannot be written.

import {
  closeSync,
  existsSync,
  fstatSync,
  openSync,
  readSync,
  renameSync,
  statSync,
} from "../builtin.ts";
import { flock, LOCK, O } from "../ffi/libc.ts";
import { writeAll } from "../write.ts";
import { diskPath } from "./disk.ts";
import { peek } from "./processes.ts";

export const EVENTS_FILE = "events.ndjson";
/** The file and its one predecessor together stay below 1 MiB. */
const FILE_BYTES_MAX = 512 * 1024;
/** What `recent` looks through: some hundred events. */
const TAIL_BYTES = 64 * 1024;
/** Writers hold the file's lock for less than a millisecond; after this long they do without. */
const LOCK_LOOKS = 50;
const NEWLINE = 10;

export const EVENTS = [
  "added",
  "live",
  "died",
  "recovering",
  "recovered",
  "gave-up",
  "stopped",
  "deleted",
  "quiesced",
] as const;
export type EventName = (typeof EVENTS)[number];

/** One event, a line of `ublk-bun events`. Fields are added, never renamed or removed. */
export interface DeviceEvent {
  /** ISO 8601, UTC, milliseconds. */
  readonly time: string;
  readonly event: EventName;
  readonly id: number;
  readonly path: string;
  /** The server that it is about; null where there is none, or it is not known. */
  readonly pid: number | null;
  readonly target: string | null;
  /** died: a signal's name, "exit code N", or what was found; absent: not known. */
  readonly how?: string;
  /** recovered: how long the disk was not served. */
  readonly pauseMs?: number;
  /** What `pauseMs` counts from: the death that was noticed, or START_USER_RECOVERY. */
  readonly pauseFrom?: "death" | "start";
  /** recovered: by a standby. */
  readonly standby?: true;
  /** gave-up: why, and what was done with the device. */
  readonly reason?: string;
  readonly policy?: string;
}

/** What of an event its writer knows. */
export interface EventFacts extends Omit<DeviceEvent, "time" | "event" | "path" | "pid"> {
  readonly pid?: number | null;
  /** When it happened, if not now; milliseconds since 1970. */
  readonly at?: number;
}

export class EventLog {
  readonly path: string;

  /** `dir`: the run folder; where it is missing, nothing is written. */
  constructor(dir: string) {
    this.path = `${dir}/${EVENTS_FILE}`;
  }

  /** Appends one event; never throws. */
  add(event: EventName, { at = Date.now(), id, pid = null, target, ...more }: EventFacts): void {
    const time = new Date(at).toISOString();
    const entry: DeviceEvent = { time, event, id, path: diskPath(id), pid, target, ...more };
    peek(() => this.#append(`${JSON.stringify(entry)}\n`));
  }

  /** What is kept besides the present file, oldest first; the rest is an EventReader's. */
  older(): DeviceEvent[] {
    return parseEvents(peek(() => readFrom(`${this.path}.1`, 0)) ?? "");
  }

  /** The newest events of one device, newest first; read one by one, for a disk may wait meanwhile. */
  *recent(id: number): Generator<DeviceEvent> {
    for (const path of [this.path, `${this.path}.1`]) {
      const lines = (peek(() => tailOf(path)) ?? "").split("\n");
      for (const line of lines.toReversed()) {
        if (line.includes(`"id":${id},`))
          yield* parseEvents(line).filter((event) => event.id === id);
      }
    }
  }

  /** The newest event of one device. */
  last(id: number): DeviceEvent | undefined {
    for (const event of this.recent(id)) return event;
    return undefined;
  }

  #append(line: string): void {
    const fd = this.#openLocked();
    try {
      const { size } = fstatSync(fd);
      // A write that a full disk has cut short must not spoil the next line.
      const isCut = size > 0 && lastByte(fd, size) !== NEWLINE;
      writeAll(fd, isCut ? `\n${line}` : line);
    } finally {
      closeSync(fd);
    }
  }

  /** The lock keeps two writers from rotating at once, and lines out of a file that is read to its end. */
  #openLocked(): number {
    for (;;) {
      const fd = openEvents(this.path);
      const isLocked = lockBriefly(fd);
      const { size, ino } = fstatSync(fd);
      if (!isLocked) return fd;
      try {
        const isCurrent = statSync(this.path, { throwIfNoEntry: false })?.ino === ino;
        if (isCurrent && size < FILE_BYTES_MAX) return fd;
        if (isCurrent) renameSync(this.path, `${this.path}.1`);
      } catch (error) {
        closeSync(fd);
        throw error;
      }
      closeSync(fd);
    }
  }
}

/** Reads events as they are appended, across rotations. */
export class EventReader implements Disposable {
  readonly #path: string;
  #fd = -1;
  #offset = 0;

  /** Begins behind what is there, or at the beginning of the present file. */
  constructor(path: string, { fromEnd }: { readonly fromEnd: boolean }) {
    this.#path = path;
    this.#open();
    if (fromEnd && this.#fd >= 0) this.#offset = fstatSync(this.#fd).size;
  }

  /** What has come since the last call. */
  take(): DeviceEvent[] {
    const events: DeviceEvent[] = [];
    for (;;) {
      if (this.#fd >= 0) events.push(...this.#takeFromFile());
      if (this.#fd >= 0 && !this.#isReplaced()) return events;
      // Whoever appends has seen by now that this file is an old one: it is complete.
      if (this.#fd >= 0) events.push(...this.#takeFromFile());
      this.#open();
      if (this.#fd < 0) return events;
    }
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  #open(): void {
    this[Symbol.dispose]();
    this.#offset = 0;
    this.#fd = peek(() => openSync(this.#path, O.RDONLY | O.NOFOLLOW)) ?? -1;
  }

  #isReplaced(): boolean {
    const there = statSync(this.#path, { throwIfNoEntry: false });
    return there !== undefined && there.ino !== fstatSync(this.#fd).ino;
  }

  #takeFromFile(): DeviceEvent[] {
    const bytes = readToEnd(this.#fd, this.#offset);
    // A line that is being written is for the next time.
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    this.#offset += end;
    return parseEvents(bytes.toString("utf8", 0, end));
  }
}

/** Lines that are no events (cut short by a full disk) are left out. */
export function parseEvents(text: string): DeviceEvent[] {
  return text.split("\n").flatMap((line) => {
    const event = peek(() => JSON.parse(line) as DeviceEvent | null);
    return typeof event?.event === "string" && typeof event.id === "number" ? [event] : [];
  });
}

/** In a folder like /tmp somebody else may have put a file there: nothing is written to it then. */
function openEvents(path: string): number {
  const fd = openSync(path, O.RDWR | O.APPEND | O.CREAT | O.NOFOLLOW | O.NONBLOCK, 0o600);
  const stat = fstatSync(fd);
  if (stat.isFile() && (stat.uid === 0 || stat.uid === process.getuid?.())) return fd;
  closeSync(fd);
  throw new Error("not ours");
}

function lockBriefly(fd: number): boolean {
  for (let look = 0; look < LOCK_LOOKS; look++) {
    if (flock(fd, LOCK.EX | LOCK.NB) === 0) return true;
    Bun.sleepSync(1);
  }
  return false;
}

function lastByte(fd: number, size: number): number | undefined {
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, size - 1);
  return byte[0];
}

function readFrom(path: string, offset: number): string {
  if (!existsSync(path)) return "";
  const fd = openSync(path, O.RDONLY | O.NOFOLLOW);
  try {
    return readToEnd(fd, offset).toString("utf8");
  } finally {
    closeSync(fd);
  }
}

/** Its first line may be half of one, which nobody takes for an event. */
function tailOf(path: string): string {
  const { size = 0 } = statSync(path, { throwIfNoEntry: false }) ?? {};
  return readFrom(path, Math.max(0, size - TAIL_BYTES));
}

function readToEnd(fd: number, offset: number): Buffer {
  const bytes = Buffer.alloc(Math.max(0, fstatSync(fd).size - offset));
  const read = bytes.length === 0 ? 0 : readSync(fd, bytes, 0, bytes.length, offset);
  return bytes.subarray(0, read);
}
