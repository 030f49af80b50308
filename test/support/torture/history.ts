// What writers asked for and what they were told, and whether what is found later can be so.
//
// A block is a register. A write takes effect somewhere between being issued and being acknowledged;
// one that was never acknowledged may take effect at any time after it was issued, or never.

import { readFileSync, writeSync } from "node:fs";

import { monotonicNs } from "./clock.ts";
import type { Found } from "./stamp.ts";

export interface Write {
  readonly block: number;
  readonly writer: number;
  readonly sequence: number;
  /** Monotonic time, in ns. */
  readonly issuedNs: number;
  /** Infinity: never. */
  readonly ackedNs: number;
}

export interface Read {
  readonly block: number;
  readonly found: Found;
  readonly issuedNs: number;
  readonly answeredNs: number;
}

/** Everything that happened to a disk, which was empty at the beginning. */
export interface History {
  readonly writes: readonly Write[];
  readonly reads: readonly Read[];
}

/** Sentences on what cannot be; none for a disk that has kept its word. */
export function violations({ writes, reads }: History): string[] {
  const blocks = new Map<number, Write[]>();
  for (const write of writes) {
    const those = blocks.get(write.block);
    if (those === undefined) blocks.set(write.block, [write]);
    else those.push(write);
  }
  return reads.flatMap((read) => complaint(read, blocks.get(read.block) ?? []) ?? []);
}

function complaint(read: Read, writes: readonly Write[]): string | undefined {
  const { block, found } = read;
  const where = `block ${block}`;
  // A file's page may be read while it is being written: only what stays torn is wrong.
  if (found === "torn")
    return writes.some((write) => overlap(write, read)) ? undefined : `${where} is torn`;
  // An acknowledged write, or the last of several: what came before all of it must be gone.
  const settled = writes.filter(({ ackedNs }) => ackedNs < read.issuedNs);
  if (found === "empty") {
    const [lost] = settled;
    return lost && `${where} is empty, and ${name(lost)} was acknowledged`;
  }
  if (found.block !== block) return `${where} holds what belongs to block ${found.block}`;
  const { writer, sequence } = found;
  const seen = writes.find((write) => write.writer === writer && write.sequence === sequence);
  if (seen === undefined) return `${where} holds ${name(found)}, which nobody has issued`;
  if (seen.issuedNs > read.answeredNs) return `${where} holds ${name(seen)} before it was issued`;
  const lost = settled.find(({ issuedNs }) => issuedNs > seen.ackedNs);
  return lost && `${where} holds ${name(seen)}, and ${name(lost)} was acknowledged after it`;
}

/** One that was never acknowledged is no excuse: it is over, or it is lost. */
const overlap = ({ issuedNs, ackedNs }: Write, read: Read) =>
  Number.isFinite(ackedNs) && issuedNs < read.answeredNs && ackedNs > read.issuedNs;

const name = ({ writer, sequence }: { readonly writer: number; readonly sequence: number }) =>
  `write ${sequence} of writer ${writer}`;

/** One writer's log, outside the disk; a line is there before what it tells of goes on. */
export class HistoryLog {
  readonly #fd: number;

  constructor(fd: number) {
    this.#fd = fd;
  }

  issued(block: number, sequence: number): void {
    writeSync(this.#fd, `i ${block} ${sequence} ${monotonicNs()}\n`);
  }

  acked(sequence: number): void {
    writeSync(this.#fd, `a ${sequence} ${monotonicNs()}\n`);
  }

  read(block: number, found: Found, issuedNs: number): void {
    const what =
      typeof found === "string" ? found : `${found.block},${found.writer},${found.sequence}`;
    writeSync(this.#fd, `r ${block} ${what} ${issuedNs} ${monotonicNs()}\n`);
  }
}

/** The logs of several writers, together; the writer's number is the position of its log. */
export function readLogs(paths: readonly string[]): History {
  const parts = paths.map((path, writer) => readLog(readFileSync(path, "utf8"), writer));
  return {
    writes: parts.flatMap(({ writes }) => writes),
    reads: parts.flatMap(({ reads }) => reads),
  };
}

function readLog(text: string, writer: number): History {
  const writes = new Map<number, Write>();
  const reads: Read[] = [];
  for (const line of text.split("\n")) {
    const [kind, first = "", second = "", third = "", fourth = ""] = line.split(" ");
    if (kind === "i") {
      const [block, sequence, issuedNs] = [Number(first), Number(second), Number(third)];
      writes.set(sequence, {
        block,
        writer,
        sequence,
        issuedNs,
        ackedNs: Number.POSITIVE_INFINITY,
      });
    }
    if (kind === "a") {
      const write = writes.get(Number(first));
      if (write === undefined) throw new Error(`write ${first} was acknowledged, but not issued`);
      writes.set(write.sequence, { ...write, ackedNs: Number(second) });
    }
    if (kind === "r") {
      const [issuedNs, answeredNs] = [Number(third), Number(fourth)];
      reads.push({ block: Number(first), found: parseFound(second), issuedNs, answeredNs });
    }
  }
  return { writes: [...writes.values()], reads };
}

function parseFound(word: string): Found {
  if (word === "empty" || word === "torn") return word;
  const [block = -1, writer = -1, sequence = -1] = word.split(",").map(Number);
  return { block, writer, sequence };
}
