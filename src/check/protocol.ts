// What passes between a check and the process that holds the target.

import type { FilterSpec } from "../filter.ts";
import type { Geometry, Spec } from "../target.ts";

export type Request =
  | { readonly kind: "open"; readonly isNew: boolean }
  | {
      readonly kind: "read";
      readonly offset: number;
      readonly length: number;
      /** Bytes by which the buffer misses the start of a page. */
      readonly shift: number;
      /** The bytes themselves are wanted too. */
      readonly isRaw: boolean;
    }
  | {
      readonly kind: "write";
      readonly offset: number;
      readonly length: number;
      /** Of the data: see content.ts. */
      readonly version: number;
      readonly fua: boolean;
      readonly shift: number;
    }
  /** Writes these bytes. */
  | { readonly kind: "put"; readonly offset: number; readonly data: Uint8Array }
  | { readonly kind: "flush" }
  | { readonly kind: "discard"; readonly offset: number; readonly length: number }
  | {
      readonly kind: "writeZeroes";
      readonly offset: number;
      readonly length: number;
      readonly mayUnmap: boolean;
    }
  | { readonly kind: "close" }
  /** Answered at once by a thread that is not busy. */
  | { readonly kind: "ping" };

/** The answer bears the same `id`. */
export type Call = Request & { readonly id: number };

export interface Answer {
  readonly id: number;
  /** What a read has brought: a label for each block. */
  readonly labels?: readonly string[];
  readonly data?: Uint8Array;
  readonly geometry?: Geometry;
  /** What went wrong, in words, with file and line as far as known. */
  readonly problem?: string | undefined;
  /** The errno's name, where the target refused by one. */
  readonly code?: string | undefined;
}

/** What a process is to hold: a target's file with its checked words, or one of our own. */
export type HostJob = {
  readonly seed: number;
  readonly identity: string;
  readonly queueId: number;
  readonly queues: number;
  readonly filters?: readonly FilterSpec[];
} & (
  | { readonly file: string; readonly words: readonly string[] }
  | { readonly target: string; readonly spec: Spec }
);
