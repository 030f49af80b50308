// How a server gets hold of a device: its char node, its queues' CPUs, the kernel's leave to recover it.

import { getDevInfo, getQueueAffinity, startUserRecovery } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { EXIT, KernelError, UblkError } from "../errors.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import { O, open } from "../ffi/libc.ts";
import { charPath } from "./disk.ts";
import { charHolders, describeCharHolders } from "./holders.ts";
import { serverPid } from "./inspect.ts";
import type { DeviceRecord, Store } from "./store.ts";

const RETRY_MS = 2;
/** What is said to be waited for only after this long is not said in the ordinary case. */
const NOTE_MS = 500;

export interface WaitOptions {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Opens /dev/ublkcN; the fd is this process's one and only. The node may be late or still be root's
 * (udev), and its last opener may be on its way out: ENOENT, EACCES and EBUSY are tried again.
 */
export async function openCharDevice(id: number, options: WaitOptions): Promise<number> {
  const deadline = performance.now() + options.timeoutMs;
  for (;;) {
    const fd = open(charPath(id), O.RDWR | O.CLOEXEC);
    if (fd >= 0) return fd;
    const passing = fd === -ERRNO.ENOENT || fd === -ERRNO.EACCES || fd === -ERRNO.EBUSY;
    if (!passing || performance.now() > deadline) throw charError(id, -fd);
    options.signal.throwIfAborted();
    await Bun.sleep(RETRY_MS);
  }
}

/**
 * For whoever has waited since it read `record`: throws (exit 5) when another server has the device, or
 * its record says something else by now.
 */
export async function assertStillDue(
  control: Control,
  store: Store,
  record: DeviceRecord,
): Promise<void> {
  const { id } = record;
  const pid = serverPid(await control.run(getDevInfo, id, undefined));
  if (pid < 0 && JSON.stringify(store.load(id)) === JSON.stringify(record)) return;
  const why = pid < 0 ? "its record has changed" : `pid ${pid} serves it`;
  throw new UblkError(`Device ${id} is not taken over by its standby: ${why}`, {
    exitCode: EXIT.busy,
    hint: "nothing was changed",
  });
}

/** The CPU bitmaps of all queues. */
export async function queueAffinities(
  control: Control,
  id: number,
  queues: number,
): Promise<Uint8Array[]> {
  const bitmaps: Uint8Array[] = [];
  for (let queueId = 0; queueId < queues; queueId++) {
    bitmaps.push(await control.run(getQueueAffinity, id, { queueId }));
  }
  return bitmaps;
}

type HeldOptions = WaitOptions & { readonly note: (text: string) => void };

/** Until the kernel has seen the last server go: what it has sent on its way can be waited for from then on. */
export function untilLeft(control: Control, id: number, options: HeldOptions): Promise<void> {
  const hasLeft = async () => (await control.run(getDevInfo, id, undefined)).state !== "LIVE";
  return whileHeld(id, hasLeft, options);
}

/** START_USER_RECOVERY, again and again while the old server, or somebody else, holds the device. */
export function startRecovery(control: Control, id: number, options: HeldOptions): Promise<void> {
  return whileHeld(id, async () => (await tryStartRecovery(control, id)) === 0, options);
}

/** Asks until it is so; says who is in the way. */
async function whileHeld(
  id: number,
  isFree: () => Promise<boolean>,
  { timeoutMs, signal, note }: HeldOptions,
): Promise<void> {
  const began = performance.now();
  let noted = false;
  while (!(await isFree())) {
    const waitedMs = performance.now() - began;
    if (waitedMs > NOTE_MS && !noted) {
      note(`waiting: ${heldBy(id)}`);
      noted = true;
    }
    if (waitedMs > timeoutMs) throw heldError(id, timeoutMs);
    signal.throwIfAborted();
    await Bun.sleep(RETRY_MS);
  }
}

/** 0, or EBUSY. */
async function tryStartRecovery(control: Control, id: number): Promise<number> {
  try {
    await control.run(startUserRecovery, id, undefined);
    return 0;
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (error.errno === ERRNO.EBUSY) return error.errno;
    if (error.errno === ERRNO.EINVAL) {
      // 6.12 answers EINVAL to the second START after one death, though the device can still be had.
      const { state } = await control.run(getDevInfo, id, undefined);
      if (state === "QUIESCED" || state === "FAIL_IO") return 0;
    }
    throw error;
  }
}

/** What an old kernel says to a FETCH of a queue that a dead server has fetched in part. */
const REFUSED_FETCH: readonly number[] = [ERRNO.EBUSY, ERRNO.EINVAL];

/** What to say of FETCHes that failed with `cause` when it is for good; undefined: it need not be. */
export function spentError(id: number, cause: unknown): UblkError | undefined {
  if (!(cause instanceof KernelError) || !REFUSED_FETCH.includes(cause.errno)) return undefined;
  // Somebody else who is at the device is another matter, and will be gone some day.
  if (charHolders(id).length > 0) return undefined;
  return new UblkError(
    `Device ${id} cannot be recovered any more: an earlier recover died while it fetched, ` +
      `and this kernel does not forget that (${cause.message})`,
    {
      cause,
      exitCode: EXIT.notRecoverable,
      hint: `give the disk up, its waiting I/O will fail: ublk-bun del ${id} --force`,
    },
  );
}

function heldBy(id: number): string {
  const holders = describeCharHolders(id);
  return holders === "" ? `${charPath(id)} is still held` : `${charPath(id)} is held by ${holders}`;
}

function heldError(id: number, timeoutMs: number): UblkError {
  return new UblkError(
    `Device ${id} cannot be recovered yet: ${heldBy(id)}, for ${timeoutMs / 1000} s now`,
    {
      exitCode: EXIT.busy,
      hint: "end that process, then recover again; the device is as it was",
    },
  );
}

function charError(id: number, errno: number): KernelError {
  const holders = errno === ERRNO.EBUSY ? describeCharHolders(id) : "";
  const by = holders === "" ? "" : ` (held by ${holders})`;
  return new KernelError(`Cannot open "${charPath(id)}": ${errnoName(errno)}${by}`, errno, {
    exitCode: errno === ERRNO.EBUSY ? EXIT.busy : EXIT.failed,
    hint: errno === ERRNO.ENOENT ? "is devtmpfs mounted on /dev?" : "see: ublk-bun list",
  });
}
