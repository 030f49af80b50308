// What main.ts and guest.ts tell each other: a plan one way, a line of JSON a figure the other.

import type { Cell } from "./matrix.ts";

export interface Plan {
  readonly kublk: string;
  readonly cells: readonly Cell[];
  readonly rounds: number;
  /** Of each sample. */
  readonly seconds: number;
  /** No cell is begun after this. */
  readonly lastBeginMs: number;
  /** Whether start-up and idling are measured, too. */
  readonly hasLife: boolean;
}

export type ServerName = "ublk-bun" | "kublk" | "null_blk" | "kernel loop" | "raw";

/** One run of fio. */
export interface Sample extends Measures {
  readonly kind: "sample";
  readonly cell: string;
  readonly server: ServerName;
  readonly round: number;
}

export interface Measures {
  readonly iops: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  /** All threads of the server; 0 where there is none. */
  readonly cpuNsPerIo: number;
  /** Of 1; from the kernel's ticks, so only roughly. */
  readonly userShare: number;
  readonly switchesPerIo: number;
  readonly rssBytes: number;
}

/** One beginning of a null disk with one queue. */
export interface Start {
  readonly kind: "start";
  readonly server: "ublk-bun" | "kublk";
  readonly addMs: number;
  readonly recoverMs: number;
}

/** A served null disk that nobody uses. */
export interface Idle {
  readonly kind: "idle";
  readonly server: "ublk-bun" | "kublk";
  readonly rssBytes: number;
  /** By thread; those that do not wake up are left out. */
  readonly wakeUpsPerSecond: Readonly<Record<string, number>>;
}

export type Figure = Sample | Start | Idle;
