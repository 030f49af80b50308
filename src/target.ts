// The contract between a target (what a disk does) and the server (how requests reach it).
//
//   parse(words) -> spec           launcher; pure; the spec is kept for recovery
//   open(spec) -> backing          daemon's main thread, at every start and every recovery
//   serve(spec, …) -> handler      once in each queue's Worker
//   start(tag) … finish(tag, …)    the data path: no promise, no allocation, no throw
//   remove(spec)                   after the device is deleted

import type { ArgsDef, ParsedArgs } from "citty";

import type { Ring } from "./ring/ring.ts";

/** What a target was asked for, as plain JSON: written to the record, read back by `recover`. */
export interface Spec {
  readonly [key: string]: string | number | boolean | readonly string[];
}

/** The shape of a disk as its target wants it; becomes `struct ublk_params`. */
export interface Geometry {
  /** A multiple of `logicalBlockBytes`. */
  readonly sizeBytes: number;
  /** A power of two, 512 to 4096. */
  readonly logicalBlockBytes: number;
  /** A power of two, at least `logicalBlockBytes`. */
  readonly physicalBlockBytes: number;
  /** Preferred smallest request; a power of two. Default: the logical block. */
  readonly minIoBytes?: number;
  /** Preferred request size; a power of two. Default: the physical block. */
  readonly optimalIoBytes?: number;
  /** Largest request the target takes. Default and upper bound: the queue's I/O buffer. */
  readonly maxIoBytes?: number;
  readonly readOnly: boolean;
  readonly rotational: boolean;
  /** Without it no FLUSH is ever sent: every write must be durable before it is completed. */
  readonly volatileCache: boolean;
  /** Counts only together with `volatileCache`. */
  readonly fua: boolean;
  /** Memory alignment that request data must have, a power of two. Default: 4. */
  readonly dmaAlignmentBytes?: number;
  readonly segments?: {
    readonly maxCount: number;
    readonly maxBytes: number;
    readonly boundaryBytes: number;
  };
  readonly discard?: { readonly maxBytes: number; readonly granularityBytes: number };
  readonly writeZeroes?: { readonly maxBytes: number };
}

/** An opened target. Its files stay open until the daemon's Workers are gone. */
export interface Backing extends AsyncDisposable {
  readonly geometry: Geometry;
  /**
   * Open files that the Workers use. Each queue registers them with its ring: `transfer` and SQEs with
   * IOSQE.FIXED_FILE name them by their position here.
   */
  readonly fds: readonly number[];
  /** What `open` found out and `serve` needs; plain JSON. */
  readonly facts: Spec;
}

/**
 * A queue as its target sees it. What describes a request is valid from `start(tag)` until
 * `complete(tag)`.
 */
export interface QueueContext {
  readonly id: number;
  readonly depth: number;
  readonly ring: Ring;
  /** One of UBLK_IO_OP. */
  op(tag: number): number;
  /** Flag bits of the request, UBLK_IO_F. */
  flags(tag: number): number;
  /** Undefined for FLUSH: test the op first. */
  offsetBytes(tag: number): number;
  lengthBytes(tag: number): number;
  /**
   * Where the request's data lies: an address in this process's memory, which a target of data
   * "address" may read (WRITE) or fill (READ). In the registered modes there is no such address; it
   * is 0 then, and good for nothing but the base of `transferVector`'s vectors.
   */
  address(tag: number): number;
  /**
   * Fills an SQE that moves part of the request's data between it and a file, in the direction of
   * the request (READ: from the file), in whatever way the device's mode needs. `file` is a position
   * in the backing's `fds`; `dataOffset` counts from the start of the request. The result comes to
   * `finish`: bytes, possibly fewer, or a negative errno. Stamp the SQE with `own`.
   */
  transfer(
    sqe: number,
    tag: number,
    file: number,
    fileOffset: number,
    dataOffset: number,
    lengthBytes: number,
  ): void;
  /**
   * The same for several parts of the request that lie together in the file: `vectors` is the address
   * of `count` struct iovec in mapped memory, whose bases are `address(tag)` plus an offset.
   */
  transferVector(
    sqe: number,
    tag: number,
    file: number,
    fileOffset: number,
    vectors: number,
    count: number,
  ): void;
  /** Stamps an SQE (its index in `ring.sqes`) as belonging to this tag; `step` comes back in `finish`. */
  own(sqe: number, tag: number, step: number): void;
  /** Ends the request, exactly once: its full length (0 where it has no data), or a negative errno. */
  complete(tag: number, result: number): void;
  /**
   * Hands the kernel at once what leaves with the end of the round otherwise: the tags fetched and the
   * requests completed so far. For those who die next.
   */
  submit(): void;
  /** A line for the daemon's log: for what happens once, never per request. */
  note(text: string): void;
}

/** Serves requests on the queue's own ring: no promise, no allocation, no throw. */
export interface RingHandler {
  readonly kind: "ring";
  /** A request has arrived: queue SQEs stamped with `queue.own`, or call `queue.complete`. */
  start(tag: number): void;
  /** One of the target's SQEs came back. */
  finish(tag: number, step: number, result: number): void;
  /** Before the FETCH of this tag is queued; for targets that fail on purpose. */
  fetching?(tag: number): void;
}

export interface ServeContext {
  readonly facts: Spec;
  readonly fds: readonly number[];
  readonly queue: QueueContext;
}

/** The device that a target is opened for. */
export interface OpenContext {
  /** -1 while the kernel has still to choose it. */
  readonly deviceId: number;
  /** 16 hexadecimal digits, the device's alone: a name for what the target itself makes. */
  readonly identity: string;
  /**
   * False for a recovery: what an earlier server of this device made must be there, and nothing may
   * be made, emptied or changed.
   */
  readonly isNew: boolean;
  /** Hardware queues, as they were asked for. */
  readonly queues?: number;
  /** A backing that somebody else uses is taken all the same. */
  readonly isForced?: boolean;
  /** A warning for the person at the prompt. */
  readonly note: (text: string) => void;
}

/** One kind of disk. A new one is a file in `targets/` and a line in its index. */
export interface Target<S extends Spec = Spec, A extends ArgsDef = ArgsDef> {
  readonly name: string;
  /** One line for `ublk-bun help add`. */
  readonly summary: string;
  /** Its options, as citty's own definitions. */
  readonly args: A;
  /**
   * What it needs of a request's data: nothing, moving it to and from a file, or its address.
   * With "none" all tags of a queue share one buffer, so memory is not spent on data nobody reads.
   */
  readonly data: "none" | "transfer" | "address";
  /** True when a request may take arbitrarily long in the Worker; switches the stall watch off. */
  readonly mayBlock?: boolean;
  /** What `data` is for this spec, where it depends on it. */
  dataOf?(spec: S): Target["data"];
  /** Called before `parse`, which reads only what is there. */
  load?(): Promise<void>;
  /** Words to spec: checks them, makes paths absolute, opens nothing. Throws UsageError. */
  parse(args: ParsedArgs<A>): S;
  /** Opens and checks everything it needs, so that nothing is left to fail afterwards. */
  open(spec: S, context: OpenContext): Promise<Backing>;
  serve(spec: S, context: ServeContext): RingHandler;
  /**
   * Defined: the target's functions are called in a thread with an event loop (script-worker.ts), and
   * `open` and `serve` are not. "one" thread serves all queues, or one "each".
   */
  hosting?(spec: S): "one" | "each" | undefined;
  /** A function of the target that does not return, in words with its place, by UBLK_IO_OP. */
  describeCall?(op: number): string;
  /** Variables of the environment, by name, that its server needs. */
  env?(spec: S): readonly string[];
  /** Files of the target's own code that are not what they were when the spec was made. */
  changed?(spec: S): readonly string[];
  /** The spec of the same words with the code as it is now. Throws UblkError. */
  renew?(spec: S): Promise<S>;
  /**
   * False: a request that runs twice does harm, so `add` picks `--recovery=queue` and says why. Asked
   * after `load`. Default: it is harmless.
   */
  repeatable?(spec: S): boolean;
  /** Most SQEs that one request becomes; the rings are sized by it. Default 1. */
  fanOut?(spec: S, geometry: Geometry): number;
  /**
   * Called before anything else in a recovery, never in an upgrade: makes sure that no request of the
   * dead server can reach the backing any more, or waits until none can. For backings beyond this
   * host, where a request may still be on its way when its repetition arrives. A rejection fails the
   * recovery, and so does one that takes longer than `--timeout`; nothing is changed.
   */
  fence?(spec: S, context: Pick<OpenContext, "identity">): Promise<void>;
  /** False: this disk has none, though the target has. */
  hasFence?(spec: S): boolean;
  /**
   * Removes what outlives the server; called once the device is gone, or was never made. Nothing to
   * remove is no error.
   */
  remove?(spec: S, context: Pick<OpenContext, "identity">): Promise<void>;
  /** Files and block devices that no second disk may use at the same time. */
  files?(spec: S): readonly string[];
  /**
   * The spec of the same disk with another size (a whole number of its blocks), after making sure that
   * the backing holds so much, or making it so; it takes nothing away. Throws UblkError. Absent: it cannot be resized.
   */
  resize?(spec: S, sizeBytes: number, context: Pick<OpenContext, "identity">): Promise<S>;
  /** Gives back what the backing has beyond the size that the spec says; the disk and its record have it already. */
  trim?(spec: S, context: Pick<OpenContext, "identity">): Promise<void>;
}

/** What the target needs of a request's data. */
export const dataOf = (target: Pick<Target, "data" | "dataOf">, spec: Spec): Target["data"] =>
  target.dataOf?.(spec) ?? target.data;

/**
 * Whether what a disk's function returned says that its request is done: nothing, or the length of the
 * data that it read or wrote, 0 where there is none. Anything else, a generator for example, says no.
 */
export const isDone = (value: unknown, dataBytes: number): boolean =>
  value === undefined || value === null || value === dataBytes;

/** What was returned instead, in words. */
export const returnedWords = (value: unknown): string =>
  typeof value === "number" ? String(value) : `something of type ${typeof value}`;

/** What stands between the values of an option that was repeated: no word can hold it. */
export const VALUE_SEPARATOR = "\0";

/**
 * The values of an option that may be repeated: one whose definition says `repeats: true`. citty knows
 * of no such thing, and hands them on as one word.
 */
export function valuesOf(word: string | undefined): string[] {
  return word === undefined ? [] : word.split(VALUE_SEPARATOR);
}

/** Lets the compiler check a target's spec and arguments against each other, then forgets them. */
export function defineTarget<S extends Spec, const A extends ArgsDef>(
  target: Target<S, A>,
): Target<Spec, ArgsDef> {
  return target as unknown as Target<Spec, ArgsDef>;
}
