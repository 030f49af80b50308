// A ring target as a disk whose functions return promises: its entries go through a real io_uring,
// its requests come from whoever calls.

import type { Disk } from "ublk-bun";

import { BlockError } from "../api/index.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import { UBLK_IO_F, UBLK_IO_OP } from "../ffi/ublk.ts";
import type { Geometry } from "../target.ts";
import { type LocalOptions, LocalQueue, type Request } from "./local-queue.ts";

export const LIFTED_IO_BYTES = 512 * 1024;
const DEPTH = 64;

interface Waiting {
  readonly request: Request;
  /** A read's memory, or what a write carries. */
  readonly bytes: Uint8Array | undefined;
  readonly resolve: (bytes: number) => void;
  readonly reject: (error: Error) => void;
}

export interface LiftOptions extends Pick<LocalOptions, "data" | "fanOut" | "fds" | "serve"> {
  readonly geometry: Geometry;
  close(): Promise<void> | void;
}

const of = (op: number, offsetBytes: number, lengthBytes: number, flags = 0): Request => ({
  op,
  flags,
  offsetBytes,
  lengthBytes,
});

/** The functions that the geometry speaks of; `close` closes the ring, then the target. */
export function lift({ geometry, close, ...options }: LiftOptions): Disk {
  const local = new LocalQueue({ ...options, depth: DEPTH, ioBufBytes: LIFTED_IO_BYTES });
  const free = Array.from({ length: DEPTH }, (_, tag) => tag);
  const begun = new Map<number, Waiting>();
  const queued: Waiting[] = [];
  let isTurning = false;

  const start = () => {
    while (queued.length > 0 && free.length > 0) {
      const tag = free.pop()!;
      const waiting = queued.shift()!;
      const { request, bytes } = waiting;
      begun.set(tag, waiting);
      if (request.op === UBLK_IO_OP.WRITE) local.data(tag).set(bytes!);
      local.deliver(tag, request);
    }
  };
  const turn = () => {
    for (const [tag, result] of local.turn()) {
      const { request, bytes, resolve, reject } = begun.get(tag)!;
      begun.delete(tag);
      free.push(tag);
      const isRead = request.op === UBLK_IO_OP.READ;
      if (isRead && result > 0) bytes!.set(local.data(tag).subarray(0, result));
      if (result >= 0) resolve(result);
      else reject(new BlockError(errnoName(-result) in ERRNO ? errnoName(-result) : "EIO"));
    }
    start();
    isTurning = begun.size > 0;
    if (isTurning) setImmediate(turn);
  };
  const answer = (request: Request, bytes?: Uint8Array) => {
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    queued.push({ request, bytes, resolve, reject });
    start();
    if (!isTurning) setImmediate(turn);
    isTurning = true;
    return promise;
  };
  const range = async (request: Request) => void (await answer(request));

  return {
    sizeBytes: geometry.sizeBytes,
    read: (offset, into) => answer(of(UBLK_IO_OP.READ, offset, into.length), into),
    ...(!geometry.readOnly && {
      write: (offset, from, { fua }) =>
        answer(of(UBLK_IO_OP.WRITE, offset, from.length, fua ? UBLK_IO_F.FUA : 0), from),
    }),
    ...(geometry.volatileCache && { flush: () => range(of(UBLK_IO_OP.FLUSH, 0, 0)) }),
    ...(geometry.discard && {
      discard: (offset, length) => range(of(UBLK_IO_OP.DISCARD, offset, length)),
    }),
    ...(geometry.writeZeroes && {
      writeZeroes: (offset, length, { mayUnmap }) =>
        range(of(UBLK_IO_OP.WRITE_ZEROES, offset, length, mayUnmap ? 0 : UBLK_IO_F.NOUNMAP)),
    }),
    close: async () => {
      local[Symbol.dispose]();
      await close();
    },
  };
}
