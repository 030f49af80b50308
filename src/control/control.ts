// Sends control commands to /dev/ublk-control and awaits them: woken by an eventfd, never polling,
// each with a deadline. Also waits for any file to become ready, reads from a disk that may never answer,
// and wakes sleeping queue Workers.

import { closeSync } from "../builtin.ts";
import { EXIT, KernelError, UblkError } from "../errors.ts";
import { RWF } from "../ffi/block.ts";
import { ERRNO } from "../ffi/errno.ts";
import { EFD, eventfd, O, open } from "../ffi/libc.ts";
import type { Liburing } from "../ffi/liburing.ts";
import { mapMemory, type MappedMemory } from "../ffi/memory.ts";
import { ublksrv_ctrl_cmd } from "../ffi/ublk.ts";
import { io_uring_sqe, IORING_SETUP } from "../ffi/uring.ts";
import {
  prepCancel,
  prepMsgRing,
  prepPollAdd,
  prepRead,
  prepUringCmd,
  setRwFlags,
  setUserData,
} from "../ring/ops.ts";
import { Ring } from "../ring/ring.ts";
import type { Command, Frame } from "./command.ts";
import { getFeatures } from "./commands/get-features.ts";
import { commandError, timeoutError, tooOldError } from "./diagnosis.ts";

export const CONTROL_PATH = "/dev/ublk-control";
/** Most bytes behind one command's `addr`. */
const BUFFER_BYTES_MAX = 4096;
/** Commands that may be under way at once. */
const SLOTS = 32;
/** How long a cancelled command may take to come back before its memory is given up. */
const CANCEL_MS_MAX = 2000;
/** Between two offers of what the kernel had no memory for. */
const SUBMIT_PAUSE_MS = 10;
/** High half of user_data. */
const KIND = { command: 0, ignored: 1, poll: 2, read: 3, message: 4 } as const;

export interface ControlOptions {
  readonly liburing: Liburing;
  /** Default deadline of every command. */
  readonly timeoutMs: number;
}

export interface RunOptions {
  readonly timeoutMs?: number;
  /** Cancels the command; it then fails with EINTR. */
  readonly signal?: AbortSignal;
}

export class Control implements Disposable {
  /** UBLK_F bits that this kernel's driver knows; 0 where it is too old to say. */
  features = 0n;

  readonly #fd: number;
  readonly #eventFd: number;
  readonly #ring: Ring;
  readonly #sqeView: DataView;
  readonly #memory: MappedMemory;
  readonly #bytes: Uint8Array;
  readonly #freeSlots = Array.from({ length: SLOTS }, (_, slot) => slot);
  readonly #waiting = new Map<number, (result: number) => void>();
  readonly #reader: ReturnType<typeof readEvents>;
  readonly #timeoutMs: number;
  #sequence = 0;
  #isClosed = false;

  private constructor(fd: number, { liburing, timeoutMs }: ControlOptions) {
    this.#fd = fd;
    this.#timeoutMs = timeoutMs;
    this.#ring = new Ring({
      liburing,
      entries: 2 * SLOTS,
      cqEntries: 8 * SLOTS,
      flags: IORING_SETUP.SQE128,
    });
    this.#sqeView = new DataView(this.#ring.sqes.buffer, this.#ring.sqes.byteOffset);
    this.#memory = mapMemory(SLOTS * BUFFER_BYTES_MAX);
    this.#bytes = this.#memory.bytes;
    this.#eventFd = eventfd(0, EFD.CLOEXEC | EFD.NONBLOCK);
    this.#ring.registerEventfd(this.#eventFd);
    this.#reader = readEvents(this.#eventFd);
    void this.#listen();
  }

  /** Opens the driver's control device. Errors: exit 4 where there is no driver, 1 without rights. */
  static async open(options: ControlOptions): Promise<Control> {
    const fd = open(CONTROL_PATH, O.RDWR | O.CLOEXEC);
    if (fd < 0) throw openError(-fd);
    const control = new Control(fd, options);
    try {
      control.features = await control.run(getFeatures, 0, undefined);
    } catch (error) {
      if (!(error instanceof KernelError) || error.errno !== ERRNO.EOPNOTSUPP) {
        control[Symbol.dispose]();
        throw error;
      }
    }
    return control;
  }

  /** Throws (exit 4) unless this kernel has the command; one that cannot tell is asked by `run`. */
  assertHas(command: Pick<Command, "name" | "needs" | "since">): void {
    if (command.needs === undefined || this.features === 0n) return;
    if ((this.features & command.needs) === 0n) throw tooOldError(command);
  }

  /** Runs one command. Throws KernelError with its errno; ETIMEDOUT and exit 124 at its deadline. */
  async run<Q, R>(
    command: Command<Q, R>,
    deviceId: number,
    request: Q,
    options: RunOptions = {},
  ): Promise<R> {
    this.assertHas(command);
    const slot = this.#freeSlots.pop();
    if (slot === undefined) throw new UblkError("Too many control commands at once");
    const frame = this.#frame(slot, command.bufferBytes ?? 0);
    command.encode?.(request, frame);
    const timeoutMs = options.timeoutMs ?? this.#timeoutMs;
    const sequence = this.#submit(command, deviceId, slot, frame);
    const giveBack = () => void this.#freeSlots.push(slot);
    const result = await this.#settle(sequence, timeoutMs, options.signal, giveBack);
    if (result === undefined) throw timeoutError(command, deviceId, timeoutMs);
    this.#freeSlots.push(slot);
    if (result === -ERRNO.ETIMEDOUT) throw timeoutError(command, deviceId, timeoutMs);
    if (result < 0) throw commandError(command, deviceId, -result);
    return command.decode?.(frame, result) as R;
  }

  /** Resolves when `fd` is ready for one of the poll(2) events in `mask`. */
  whenReady(fd: number, mask: number): Promise<void> {
    const sequence = this.#next();
    const at = this.#ring.sqe();
    prepPollAdd(this.#ring.sqes, at, fd, mask);
    setUserData(this.#ring.sqes, at, sequence, KIND.poll);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.set(sequence, () => resolve());
    this.#submitAll();
    return promise;
  }

  /**
   * Reads the beginning of a file into all of `memory`; resolves with the bytes read or a negative errno:
   * EAGAIN where the kernel would have to wait before the request is with the file's driver. Nobody is
   * ever stuck in it: a process may end while the request is under way, which keeps the file open.
   */
  readNow(fd: number, { address, lengthBytes }: MappedMemory): Promise<number> {
    const sequence = this.#next();
    const at = this.#ring.sqe();
    prepRead(this.#ring.sqes, at, fd, address, lengthBytes, 0);
    setRwFlags(this.#ring.sqes, at, RWF.NOWAIT);
    setUserData(this.#ring.sqes, at, sequence, KIND.read);
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#waiting.set(sequence, resolve);
    this.#submitAll();
    this.#reap();
    return promise;
  }

  /**
   * Posts a completion (`lo`, `hi`) into another ring, which wakes the thread that sleeps in it; resolves
   * with 0 or a negative errno.
   */
  wake(ringFd: number, lo: number, hi: number): Promise<number> {
    const sequence = this.#next();
    const at = this.#ring.sqe();
    prepMsgRing(this.#ring.sqes, at, ringFd, 0, lo, hi);
    setUserData(this.#ring.sqes, at, sequence, KIND.message);
    const { promise, resolve } = Promise.withResolvers<number>();
    this.#waiting.set(sequence, resolve);
    this.#submitAll();
    return promise;
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    void this.#reader.cancel();
    this.#ring[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
    closeSync(this.#eventFd);
    closeSync(this.#fd);
  }

  /** What the kernel has no memory for now is offered again: nothing else might come that takes it along. */
  #submitAll(): void {
    if (this.#isClosed) return;
    this.#ring.submit();
    if (this.#ring.unsubmitted > 0) setTimeout(() => this.#submitAll(), SUBMIT_PAUSE_MS).unref();
  }

  #next(): number {
    this.#sequence = (this.#sequence + 1) & 0x7fffffff;
    return this.#sequence;
  }

  #frame(slot: number, bufferBytes: number): Frame {
    const offset = slot * BUFFER_BYTES_MAX;
    this.#bytes.fill(0, offset, offset + BUFFER_BYTES_MAX);
    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset + offset, bufferBytes);
    return { view, data: 0n, queueId: 0xffff, pathBytes: 0 };
  }

  #submit<Q, R>(command: Command<Q, R>, deviceId: number, slot: number, frame: Frame): number {
    const sequence = this.#next();
    const at = this.#ring.sqe();
    prepUringCmd(this.#ring.sqes, at, this.#fd, command.op | 0);
    setUserData(this.#ring.sqes, at, sequence, KIND.command);
    const lengthBytes = command.bufferBytes ?? 0;
    const address = this.#memory.address + slot * BUFFER_BYTES_MAX;
    ublksrv_ctrl_cmd.write(
      this.#sqeView,
      {
        dev_id: deviceId,
        queue_id: frame.queueId,
        len: lengthBytes,
        addr: lengthBytes === 0 ? 0n : BigInt(address),
        data: frame.data,
        dev_path_len: frame.pathBytes,
      },
      at * 4 + io_uring_sqe.at.cmd,
    );
    return sequence;
  }

  /**
   * The command's result; ETIMEDOUT when it was cancelled late, undefined when it is still there: the kernel may
   * write to its memory until `onEnd`.
   */
  async #settle(
    sequence: number,
    timeoutMs: number,
    signal: AbortSignal | undefined,
    onEnd: () => void,
  ): Promise<number | undefined> {
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    let timedOut = false;
    this.#waiting.set(sequence, resolve);
    const cancel = () => {
      const at = this.#ring.sqe();
      prepCancel(this.#ring.sqes, at, sequence, KIND.command);
      setUserData(this.#ring.sqes, at, this.#next(), KIND.ignored);
      this.#submitAll();
      setTimeout(() => {
        if (!this.#waiting.has(sequence)) return;
        this.#waiting.set(sequence, onEnd);
        resolve(undefined);
      }, CANCEL_MS_MAX).unref();
    };
    const deadline = setTimeout(() => {
      timedOut = true;
      cancel();
    }, timeoutMs);
    signal?.addEventListener("abort", cancel, { once: true });
    this.#submitAll();
    this.#reap();
    const result = await promise;
    clearTimeout(deadline);
    signal?.removeEventListener("abort", cancel);
    if (timedOut && result !== undefined && result < 0) return -ERRNO.ETIMEDOUT;
    // Cancelled before the kernel had begun with it.
    return result === -ERRNO.ECANCELED ? -ERRNO.EINTR : result;
  }

  async #listen(): Promise<void> {
    while (!(await this.#reader.read()).done) this.#reap();
  }

  #reap(): void {
    this.#ring.reapAll(this.#onCompletion);
  }

  readonly #onCompletion = (lo: number, hi: number, result: number): void => {
    if (hi === KIND.ignored) return;
    const resolve = this.#waiting.get(lo);
    this.#waiting.delete(lo);
    resolve?.(result);
  };
}

/** Reads an eventfd (non-blocking, or the stream will not have it) through the event loop. */
function readEvents(eventFd: number) {
  return Bun.file(eventFd).stream().getReader();
}

function openError(errno: number): KernelError {
  const what = `Cannot open "${CONTROL_PATH}"`;
  if (errno === ERRNO.ENOENT || errno === ERRNO.ENXIO || errno === ERRNO.ENODEV) {
    return new KernelError(`${what}: the ublk driver is not loaded`, errno, {
      exitCode: EXIT.notSupported,
      hint: "run: modprobe ublk_drv (Linux 6.1 or later, CONFIG_BLK_DEV_UBLK)",
    });
  }
  return new KernelError(`${what}: no permission`, errno, { hint: "run it as root" });
}
