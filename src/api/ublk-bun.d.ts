// What a target's file may import from "ublk-bun": the types that `ublk-bun types` prints, and that
// src/api/index.ts keeps to.

declare module "ublk-bun" {
  type MaybePromise<T> = T | Promise<T>;

  // ---- Parameters: what `--param key=value` gives -------------------------------------------------

  /** One parameter. Its value is checked before anything is opened. */
  export interface Param {
    /**
     * - string, number, boolean ("true", "false", "yes", "no", "1", "0")
     * - size: "64MiB" becomes 67108864
     * - path: made absolute; no second disk may use the same file, unless `shared`
     * - secret: the path of a file, whose text (without the last newline) `open` gets. The path is
     *   kept for recovery, the text is not.
     */
    readonly type: "string" | "number" | "boolean" | "size" | "path" | "secret";
    readonly required?: boolean;
    /** As it would be typed after `key=`. */
    readonly default?: string;
    /** The words that it may be. */
    readonly oneOf?: readonly string[];
    /** One line for `ublk-bun help ./disk.ts`. */
    readonly help?: string;
    /** Of a path: several disks may use it. */
    readonly shared?: boolean;
  }

  export type Params = Readonly<Record<string, Param>>;

  type Value<P extends Param> = P["type"] extends "number" | "size"
    ? number
    : P["type"] extends "boolean"
      ? boolean
      : string;

  /** What `open` gets: a value where one is required or has a default, else perhaps undefined. */
  export type ParamValues<P extends Params> = {
    readonly [K in keyof P]: P[K] extends { readonly required: true } | { readonly default: string }
      ? Value<P[K]>
      : Value<P[K]> | undefined;
  };

  // ---- A target: functions that read and write ----------------------------------------------------

  /** The shape of a disk. */
  export interface Shape {
    /** A multiple of `logicalBlockBytes`. */
    readonly sizeBytes: number;
    /** Every offset and length is a multiple of it: a power of two, 512 (default) to 4096. */
    readonly logicalBlockBytes?: number;
    /** A power of two, at least `logicalBlockBytes`. Default: 4096. */
    readonly physicalBlockBytes?: number;
    /** Default: true when there is no `write`. */
    readonly readOnly?: boolean;
    /** The largest request; a multiple of 4096. Default: the queue's buffer (`--io-buf-size`). */
    readonly maxIoBytes?: number;
    /** A preferred request size; a power of two. */
    readonly optimalIoBytes?: number;
    readonly rotational?: boolean;
  }

  /**
   * An open disk. Every function may return a promise; up to `depth` requests are under way at once,
   * in any order. Throw `new BlockError("ENOSPC")` to fail a request with that errno, anything else
   * fails it with EIO. Return nothing, or of `read` and `write` the whole length: whatever else is
   * returned is EIO, too. What is missing is not advertised: no `write` is a read-only disk, no `flush`
   * a disk without a volatile cache, whose writes must be durable when they are answered.
   *
   * `into` and `from` are memory that the kernel fills and reads: good until the request is answered.
   * A request that is not answered within `--io-timeout` fails with ETIMEDOUT; its memory is taken
   * away (the view becomes empty) and never used again.
   */
  export interface Disk extends Shape {
    /** Fills all of `into`. */
    read(offset: number, into: Uint8Array): MaybePromise<number | void>;
    /**
     * Takes all of `from`. A function that declares its third parameter hears of writes that must be
     * durable when they are answered (`fua`); for one that does not, the kernel flushes instead.
     */
    write?(
      offset: number,
      from: Uint8Array,
      options: { readonly fua: boolean },
    ): MaybePromise<number | void>;
    /**
     * Every write that was answered before it is durable when it is answered. What is not flushed yet
     * should outlive the process all the same, as what a file was given does: after a crash and
     * `recover` nobody writes it again, and a file system that is mounted misses it.
     */
    flush?(): MaybePromise<void>;
    /** The range may read as anything from now on. */
    discard?(offset: number, length: number): MaybePromise<void>;
    /** The range reads as zeroes. `mayUnmap` false: its space must stay allocated. */
    writeZeroes?(
      offset: number,
      length: number,
      options: { readonly mayUnmap: boolean },
    ): MaybePromise<void>;
    /**
     * The disk is gone or goes to another server: what was written must be where the next `open`
     * finds it. `flush` has been called; no request is under way.
     */
    close?(): MaybePromise<void>;
    /** Whether `write` heeds `fua`. Default: whether it declares a third parameter. */
    readonly fua?: boolean;
    /** Largest discard and writeZeroes; multiples of the block. Default: 1 GiB. */
    readonly maxDiscardBytes?: number;
    readonly maxWriteZeroesBytes?: number;
  }

  /** The device that a disk is opened for. */
  export interface OpenContext {
    /** -1 while the kernel has still to choose it. */
    readonly deviceId: number;
    /** 16 hexadecimal digits, the device's alone: a name for what the target itself makes. */
    readonly identity: string;
    /**
     * True for `add`. False for a recovery and an upgrade: what an earlier server made must be there,
     * and must not be emptied. Where it is gone, throw: then nothing is changed, and the disk waits.
     */
    readonly isNew: boolean;
    /** With `perQueue`: which queue this instance serves. Otherwise 0. */
    readonly queueId: number;
    /** Hardware queues of the device, as they were asked for. */
    readonly queues: number;
  }

  export interface TargetOptions<P extends Params> {
    /** One line for `ublk-bun help ./disk.ts`. */
    readonly summary?: string;
    readonly params?: P;
    /**
     * False (default): one instance, in one thread, serves all queues. True: one instance a queue,
     * each in a thread of its own. They share nothing, so only for disks whose whole state is in
     * their backing; a flush goes to all of them.
     */
    readonly perQueue?: boolean;
    /**
     * False: running a request twice does harm. After a crash the requests that the dead server had
     * taken then fail with EIO instead of coming again (`add` picks `--recovery=queue`). Default: true.
     */
    readonly repeatable?: boolean;
    /**
     * Opens the disk. It may be called while an earlier server of the same disk still serves it
     * (`upgrade`), so it must not read what writes may still change, nor change anything.
     */
    open(params: ParamValues<P>, context: OpenContext): MaybePromise<Disk>;
    /**
     * Called before `open` in a recovery, never in an upgrade, in the server's main thread: makes sure
     * that no request of the dead server can reach the backing any more, or waits until none can. For
     * a backing beyond this host. What it throws fails the recovery, and nothing is changed.
     */
    fence?(params: ParamValues<P>, context: FenceContext): MaybePromise<void>;
  }

  /** The device whose server has died. */
  export type FenceContext = Pick<OpenContext, "identity">;

  /** What the `define…` functions return: a file's default export. */
  export interface Definition {
    readonly kind: "target" | "ring" | "filter";
    readonly options: TargetOptions<Params> | RingTargetOptions<Params> | FilterOptions<Params>;
  }

  export function defineTarget<const P extends Params = {}>(options: TargetOptions<P>): Definition;

  /** Fails a request with an errno by its name: "ENOSPC", "EROFS", "EAGAIN", … */
  export class BlockError extends Error {
    constructor(code: string, message?: string);
    readonly code: string;
    /** The number, positive. */
    readonly errno: number;
  }

  // ---- A filter: a disk over another one, `add --filter ./log.ts` ----------------------------------

  /**
   * The disk below a filter. Every function is there: `write` on a read-only disk fails with EROFS,
   * `discard` and `writeZeroes` of a disk without them with EOPNOTSUPP, and `flush` of a disk without a
   * cache does nothing. Offsets and lengths are whole blocks of it.
   */
  export interface DiskBelow
    extends
      Required<Omit<Shape, "maxIoBytes" | "optimalIoBytes">>,
      Pick<Shape, "maxIoBytes" | "optimalIoBytes"> {
    /** Writes may be lost until `flush` has returned. */
    readonly volatileCache: boolean;
    readonly maxDiscardBytes?: number;
    readonly maxWriteZeroesBytes?: number;
    read(offset: number, into: Uint8Array): Promise<void>;
    /** `fua`: durable when it is answered, whether or not the disk itself knows such writes. */
    write(offset: number, from: Uint8Array, options?: { readonly fua?: boolean }): Promise<void>;
    flush(): Promise<void>;
    discard(offset: number, length: number): Promise<void>;
    writeZeroes(
      offset: number,
      length: number,
      options?: { readonly mayUnmap?: boolean },
    ): Promise<void>;
  }

  /**
   * What a filter does otherwise than the disk below; what is left out goes there unchanged. Functions
   * are called instead of those below. What the disk below cannot do at all is only there where it is
   * said: `readOnly: false`, `maxDiscardBytes`, `maxWriteZeroesBytes`. A `flush` always counts.
   * `close` is called before that of the disk below.
   */
  export type FilterDisk = Partial<Disk>;

  export interface FilterOptions<P extends Params> {
    readonly summary?: string;
    /** Given with the file: `--filter ./log.ts,key=value,key=value`. */
    readonly params?: P;
    /** As a target's. Default: true. */
    readonly repeatable?: boolean;
    /** As a target's: it must not read from below what writes may still change, nor change anything. */
    open(
      below: DiskBelow,
      params: ParamValues<P>,
      context: Omit<OpenContext, "queueId">,
    ): MaybePromise<FilterDisk>;
  }

  export function defineFilter<const P extends Params = {}>(options: FilterOptions<P>): Definition;

  // ---- A ring target: it queues io_uring entries itself -------------------------------------------

  /** An open ring target. Its files stay open until all queues are gone. */
  export interface RingDisk extends Shape {
    /** Open files; `queue.transfer` and entries with `IOSQE.FIXED_FILE` name them by position. */
    readonly fds: readonly number[];
    /** What `open` found out and `serve` needs: plain JSON, for `serve` runs in other threads. */
    readonly facts?: Readonly<Record<string, string | number | boolean>>;
    /** Without it no FLUSH is sent: every write must be durable before it is completed. */
    readonly volatileCache?: boolean;
    /** Writes may carry `IO_F.FUA`. Counts only together with `volatileCache`. */
    readonly fua?: boolean;
    readonly maxDiscardBytes?: number;
    readonly maxWriteZeroesBytes?: number;
    /** Called when the disk is gone, or goes to another server, which waits for it: 10 s at most. */
    close?(): MaybePromise<void>;
  }

  export interface RingTargetOptions<P extends Params> {
    readonly summary?: string;
    readonly params?: P;
    /** What it needs of a request's data: nothing, moving it to and from a file, or its address. */
    readonly data: "none" | "transfer" | "address";
    /** Most entries that one request becomes. Default: 1. */
    readonly sqesPerRequest?: number;
    /** As a target's. Default: true. */
    readonly repeatable?: boolean;
    /** Once, in the main thread. */
    open(params: ParamValues<P>, context: Omit<OpenContext, "queueId">): MaybePromise<RingDisk>;
    /** As a target's. */
    fence?(params: ParamValues<P>, context: FenceContext): MaybePromise<void>;
    /** Once in each queue's thread. */
    serve(context: RingContext<ParamValues<P>>): RingHandler;
  }

  export interface RingContext<V> {
    readonly params: V;
    readonly fds: readonly number[];
    readonly facts: Readonly<Record<string, string | number | boolean>>;
    readonly queue: RingQueue;
  }

  /** The data path: no promise, no throw, and better no allocation. */
  export interface RingHandler {
    /** A request has arrived: queue entries stamped with `queue.own`, or call `queue.complete`. */
    start(tag: number): void;
    /** One of the target's entries came back: its result, or a negative errno. */
    finish(tag: number, step: number, result: number): void;
  }

  /** A queue. What describes a request is valid from `start(tag)` until `complete(tag)`. */
  export interface RingQueue {
    readonly id: number;
    readonly depth: number;
    readonly ring: {
      /** Every word of every submission entry, 16 an entry. */
      readonly sqes: Int32Array;
      /** Takes the next entry: the index of its first word in `sqes`. Fill it before the next. */
      sqe(): number;
    };
    /** One of `IO_OP`. */
    op(tag: number): number;
    /** Bits of `IO_F`. */
    flags(tag: number): number;
    /** Undefined for FLUSH: test the op first. */
    offsetBytes(tag: number): number;
    lengthBytes(tag: number): number;
    /** Where the request's data lies, for a target of data "address"; 0 in zero-copy modes. */
    address(tag: number): number;
    /**
     * Fills an entry that moves part of the request's data between it and file number `file`, in the
     * direction of the request. The result comes to `finish`: bytes, possibly fewer, or an errno.
     */
    transfer(
      sqe: number,
      tag: number,
      file: number,
      fileOffset: number,
      dataOffset: number,
      lengthBytes: number,
    ): void;
    /** Stamps an entry as belonging to this tag; `step` (16 bits) comes back in `finish`. */
    own(sqe: number, tag: number, step: number): void;
    /** Ends the request, exactly once: its length (0 where it has no data), or a negative errno. */
    complete(tag: number, result: number): void;
    /** A line for the daemon's log: for what happens once, never per request. */
    note(text: string): void;
  }

  export function defineRingTarget<const P extends Params = {}>(
    options: RingTargetOptions<P>,
  ): Definition;

  /** Operations of a request: READ, WRITE, FLUSH, DISCARD, WRITE_ZEROES. */
  export const IO_OP: {
    readonly READ: number;
    readonly WRITE: number;
    readonly FLUSH: number;
    readonly DISCARD: number;
    readonly WRITE_ZEROES: number;
  };
  /** Flag bits of a request. */
  export const IO_F: { readonly FUA: number; readonly NOUNMAP: number };
  /** Flag bits of an entry, for `addFlags`. */
  export const IOSQE: { readonly FIXED_FILE: number; readonly IO_LINK: number };
  /** Errnos by name, positive: answer `-ERRNO.EIO`. */
  export const ERRNO: Readonly<Record<string, number>>;
  /** Fill an entry; `file` is an open file, or with `addFlags(…, IOSQE.FIXED_FILE)` a position. */
  export function prepNop(sqes: Int32Array, sqe: number): void;
  export function prepFsync(sqes: Int32Array, sqe: number, file: number, flags?: number): void;
  export function prepFallocate(
    sqes: Int32Array,
    sqe: number,
    file: number,
    mode: number,
    offset: number,
    length: number,
  ): void;
  export function addFlags(sqes: Int32Array, sqe: number, flags: number): void;
}
