// What the main thread and the queue Workers say to each other.

import type { ExitCode } from "../errors.ts";
import type { FilterSpec } from "../filter.ts";
import type { Backing, Geometry, Spec } from "../target.ts";

/** How a request's data travels between the kernel and the target; docs/architecture.md. */
export type Mode = "copy" | "get-data" | "user-copy" | "zero-copy" | "auto-zc" | "auto-zc-fallback";

/** To a script worker, before anything: open the disk that the target's file defines, with its filters. */
export interface OpenDisk {
  readonly kind: "open";
  readonly target: string;
  readonly spec: Spec;
  readonly filters: readonly FilterSpec[];
  /** A ring target, which main has opened: it is served under the filters. */
  readonly base: Pick<Backing, "geometry" | "fds" | "facts"> | undefined;
  /** Path for `loadLiburing`. */
  readonly liburing: string;
  readonly context: {
    readonly deviceId: number;
    readonly identity: string;
    readonly isNew: boolean;
    readonly queueId: number;
    readonly queues: number;
  };
  readonly progressAddress: number;
}

/** Everything a Worker needs before it may touch the device. */
export interface Prepare {
  readonly kind: "prepare";
  readonly deviceId: number;
  readonly queueId: number;
  readonly depth: number;
  readonly ioBufBytes: number;
  /** Bytes from one io descriptor to the next. */
  readonly ioDescBytes: number;
  readonly mode: Mode;
  /** Its commands are for many tags at once (UBLK_F_BATCH_IO). */
  readonly isBatch: boolean;
  readonly liburing: string;
  readonly target: string;
  readonly spec: Spec;
  readonly facts: Spec;
  readonly fds: readonly number[];
  /** Most SQEs one request becomes. */
  readonly fanOut: number;
  /** Address of this queue's line in the progress page (progress.ts). */
  readonly progressAddress: number;
  /** The queues that this thread serves; only a script worker can do with several. */
  readonly queueIds: readonly number[];
  /** How many the device has. */
  readonly queues: number;
  readonly stallTimeoutMs: number;
}

/** Serve: fetch every tag of the queue from the device that main has opened. */
export interface Prime {
  readonly kind: "prime";
  readonly charFd: number;
  /** CPUs as GET_QUEUE_AFFINITY gave them; empty: leave the thread where it is. */
  readonly affinity: Uint8Array;
}

/**
 * What a Worker that sits in its ring is told: a completion there (KIND.wake) carries the order's place in
 * this list.
 * - drain: start nothing new, keep it; say `drained` when all that was begun is committed, and a
 *   disk of functions is flushed
 * - stay: start what was kept, go on as before
 * - leave: drain, and be done; the ring stays, for the process to take along when it ends: the kernel
 *   has what was kept done again. Linux 6.12 loses requests when a ring closes and its thread lives on
 *   (docs/recovery.md)
 * - end: the disk is gone; answer what there is, then give up ring and descriptors
 * - refuse: answer every request with EIO, for the disk is being taken back
 */
export const ORDERS = ["drain", "stay", "leave", "end", "refuse"] as const;

export type Order = (typeof ORDERS)[number];

export type ToWorker = Prepare | Prime;
export type ToScriptWorker = OpenDisk | Prepare | Prime;

export type FromWorker =
  /** The disk of the target's file is open, and its first block can be read. */
  | { readonly kind: "opened"; readonly geometry: Geometry }
  /** Ring, buffers and target are ready; nothing has been asked of the device yet. */
  | { readonly kind: "prepared"; readonly threadId: number; readonly ringFd: number }
  /** Every FETCH is with the kernel. */
  | { readonly kind: "primed" }
  /** A line for the log, each time. */
  | { readonly kind: "log"; readonly text: string }
  /** A line for the log, once. */
  | { readonly kind: "note"; readonly text: string }
  /** The target threw before the device was live; every request is refused since. */
  | { readonly kind: "broken"; readonly message: string }
  /** Nothing is with the target any more, and nothing new is started. `unflushed`: why its flush failed. */
  | { readonly kind: "drained"; readonly unflushed?: string }
  /**
   * Nothing is left to do. Unless it was told to leave, the Worker holds nothing of the device any more:
   * ring and descriptors are unmapped.
   */
  | { readonly kind: "gone" }
  /** Preparing or priming failed; nothing was served. */
  | {
      readonly kind: "failed";
      readonly message: string;
      readonly hint: string | undefined;
      /** What the kernel answered; 0 where it was not the kernel. */
      readonly errno: number;
      /** What the command ends with, where a disk's `open` says it. */
      readonly exitCode?: ExitCode;
    };
