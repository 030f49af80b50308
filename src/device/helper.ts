// STOP_DEV and DEL_DEV, sent by a process of their own: they cannot be cancelled, and whoever sent
// one cannot end before it does, not even by kill -9. So whoever waits for it can stop waiting.
// The same with a direct read of a disk.

import { readFileSync } from "node:fs";

import type { DevInfo } from "../control/commands/dev-info.ts";
import { delDev, delDevAsync, getParams, stopDev, tryStopDev } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { commandError } from "../control/diagnosis.ts";
import { EXIT, KernelError, UblkError } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";
import { close, O, open, pread } from "../ffi/libc.ts";
import { mapMemory } from "../ffi/memory.ts";
import { writeAll } from "../write.ts";
import { within } from "./deadline.ts";
import { blockBytes, diskPath, inFlight } from "./disk.ts";
import { findDevice } from "./find-device.ts";
import { describeCharHolders } from "./holders.ts";
import { identityText } from "./identity.ts";
import type { KernelParams } from "./param-report.ts";
import { isAlive, peek, processIds } from "./processes.ts";
import { CLEAN_ENV, selfCommand } from "./self.ts";

/** The hidden subcommand that runs `sendTrapped`. */
export const SEND_COMMAND = "__send";

/** "stop-unused" is TRY_STOP_DEV for kernels without it: STOP_DEV behind an exclusive open. */
const TRAPPED = {
  stop: stopDev,
  "try-stop": tryStopDev,
  "stop-unused": stopDev,
  del: delDev,
  "del-async": delDevAsync,
} as const;
export type TrappedVerb = keyof typeof TRAPPED;
/** GET_PARAMS changes nothing, but waits for whoever changes the device. */
const ASK_PARAMS = "get-params";
/** Not a command, but may wait for the disk's server as long as those. */
const READ_DISK = "read";

const REUSE_LOOK_MS = 100;
const FOR_EVER_MS = 2 ** 31 - 1;
/** What takes back a failed `add` may take this long, however short --timeout is. */
const CLEAN_UP_MS_MIN = 20_000;

/** The deadline of each step that takes a half-made device back. */
export function cleanUpMs(timeoutMs: number): number {
  return Math.max(timeoutMs, CLEAN_UP_MS_MIN);
}

export interface AskOptions {
  readonly timeoutMs: number;
  readonly liburing: string;
}

export interface SendOptions extends AskOptions {
  readonly control: Control;
}

/** A device, and not another one that has got its id. */
export type Which = Pick<DevInfo, "id" | "identity">;

/**
 * Runs `verb` in a helper process. KernelError with exit 124 when it is not back in time, ENODEV when
 * the device is gone; one that is gone needs no "del".
 */
export async function sendByHelper(
  verb: TrappedVerb,
  device: Which,
  { control, timeoutMs, liburing }: SendOptions,
): Promise<void> {
  const { id } = device;
  // Once the kernel has begun to take the disk down, sysfs may not tell any more.
  const requestsBefore = inFlight(id);
  const over = new AbortController();
  const reused = verb === "del" ? [untilReused(control, device, over.signal)] : [];
  const words = [verb, String(id), liburing, identityText(device.identity)];
  const asked = askHelper(words, timeoutMs, ...reused);
  const { pid, answer } = await asked.finally(() => over.abort());
  if (answer === "reused") return;
  if (answer === "late") throw stuckError(verb, id, timeoutMs, { helper: pid, requestsBefore });
  if (answer.text === "") {
    const what = `The helper that sent ${TRAPPED[verb].name} died: ${answer.complaint.trim()}`;
    throw new UblkError(what, { hint: "what became of the device: ublk-bun list" });
  }
  const errno = Number(answer.text);
  if (errno === ERRNO.ENODEV && verb === "del") return;
  if (errno !== 0) throw commandError(TRAPPED[verb], id, errno);
}

/** GET_PARAMS by a helper process: UblkError when it has no answer in time, or none at all. */
export async function askParams(
  id: number,
  { timeoutMs, liburing }: AskOptions,
): Promise<KernelParams> {
  const { answer } = await askHelper([ASK_PARAMS, String(id), liburing], timeoutMs);
  const what = `The parameters of device ${id} are unknown`;
  if (typeof answer === "string") throw new UblkError(`${what}: somebody is at it`);
  if (answer.text === "") throw new UblkError(`${what}: ${answer.complaint.trim()}`);
  const words = JSON.parse(answer.text) as Record<string, number | string>;
  const values = Object.entries(words).map(([field, value]) => [
    field,
    typeof value === "string" ? BigInt(value) : value,
  ]);
  return Object.fromEntries(values) as KernelParams;
}

/** Reads the first block by a helper process; UblkError when that is not back in time. */
export async function readByHelper(id: number, { timeoutMs, liburing }: AskOptions): Promise<void> {
  const { pid, answer } = await askHelper([READ_DISK, String(id), liburing], timeoutMs);
  const what = `The disk of device ${id} cannot be read`;
  if (typeof answer === "string") {
    throw new UblkError(`${what}: pid ${pid} goes on trying`, { exitCode: EXIT.timedOut });
  }
  if (answer.text === "") throw new UblkError(`${what}: ${answer.complaint.trim()}`);
}

/** True while a helper of ours waits for the kernel to be done with a command to this device. */
export function isBeingChanged(id: number): boolean {
  const words = new RegExp(`\\0${SEND_COMMAND}\\0(?!${READ_DISK}\\0)[a-z-]+\\0${id}\\0`);
  return processIds().some((pid) =>
    words.test(peek(() => readFileSync(`/proc/${pid}/cmdline`, "utf8")) ?? ""),
  );
}

interface Answer {
  readonly text: string;
  readonly complaint: string;
}

/** Runs a helper with these words, until it has answered, it is late, or `enough` resolves. */
async function askHelper(
  words: readonly string[],
  timeoutMs: number,
  ...enough: readonly Promise<"reused">[]
): Promise<{ readonly pid: number; readonly answer: Answer | "late" | "reused" }> {
  const helper = Bun.spawn(selfCommand([SEND_COMMAND, ...words]), {
    // Nothing of the caller's: whoever reads our output to its end must not wait for a stuck helper.
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...CLEAN_ENV },
    cwd: "/",
    detached: true,
  });
  const { pid } = helper;
  const outputs = [helper.stdout, helper.stderr].map((stream) => new Response(stream).text());
  const ended = await within(timeoutMs, Promise.race([Promise.all(outputs), ...enough]));
  if (ended === "reused") helper.kill("SIGKILL");
  if (typeof ended === "string") {
    helper.unref();
    return { pid, answer: ended };
  }
  const [text = "", complaint = ""] = ended;
  return { pid, answer: { text, complaint } };
}

/**
 * Resolves when another device has got the id. The kernel frees an id and then wakes whoever waits in
 * DEL_DEV for it to be free: should somebody have it again by then, DEL_DEV would wait for that one's end.
 */
async function untilReused(
  control: Control,
  { id, identity }: Which,
  over: AbortSignal,
): Promise<"reused"> {
  while (!over.aborted) {
    await Bun.sleep(REUSE_LOOK_MS);
    const info = over.aborted ? undefined : await findDevice(control, id);
    if (info !== undefined && info.identity !== identity) break;
  }
  return "reused";
}

/**
 * The helper's side: sends the command and writes its errno (0: done), or its answer, to stdout. `identity`
 * is the device's: another one with its id is left alone.
 */
export async function sendTrapped(
  control: Control,
  verb: string,
  id: number,
  identity: string,
): Promise<void> {
  if (verb === READ_DISK) {
    writeAll(1, String(readDisk(id)));
    return;
  }
  if (verb !== ASK_PARAMS) {
    const info = await findDevice(control, id);
    const isIt = info !== undefined && identityText(info.identity) === identity;
    const errno = isIt ? await attempt(control, verb as TrappedVerb, id) : ERRNO.ENODEV;
    writeAll(1, String(errno));
    return;
  }
  const params = await control.run(getParams, id, undefined, { timeoutMs: FOR_EVER_MS });
  writeAll(1, JSON.stringify(params, bigintsAsTexts));
}

/** JSON has no bigint. */
const bigintsAsTexts = (_key: string, value: unknown) =>
  typeof value === "bigint" ? String(value) : value;

/** Past the page cache: what is in there proves nothing. */
function readDisk(id: number): number {
  const fd = open(diskPath(id), O.RDONLY | O.DIRECT | O.CLOEXEC);
  if (fd < 0) return -fd;
  using memory = mapMemory(blockBytes(id));
  const result = pread(fd, memory.address, memory.lengthBytes, 0);
  close(fd);
  return Math.max(0, -result);
}

async function attempt(control: Control, verb: TrappedVerb, id: number): Promise<number> {
  // The device is unmounted and closed, or this open fails; while it lasts nobody can mount it.
  const fd = verb === "stop-unused" ? open(diskPath(id), O.RDONLY | O.EXCL | O.CLOEXEC) : -1;
  if (verb === "stop-unused" && fd < 0 && fd !== -ERRNO.ENOENT) return -fd;
  try {
    await control.run(TRAPPED[verb], id, undefined, { timeoutMs: FOR_EVER_MS });
    return 0;
  } catch (error) {
    if (error instanceof KernelError) return error.errno;
    throw error;
  } finally {
    if (fd >= 0) close(fd);
  }
}

function stuckError(
  verb: TrappedVerb,
  id: number,
  timeoutMs: number,
  { helper, requestsBefore }: { helper: number; requestsBefore: number },
): KernelError {
  const count = inFlight(id) || requestsBefore;
  const holders = describeCharHolders(id);
  const requests = `${count} request${count === 1 ? "" : "s"}`;
  const held = count === 0 ? "the device" : requests;
  const why = holders === "" ? `${requests} in flight` : `${holders} still holds ${held}`;
  const goesOn = isAlive(helper) ? `; pid ${helper} goes on waiting for it in the kernel` : "";
  return new KernelError(
    `${TRAPPED[verb].name} of device ${id} did not end within ${timeoutMs / 1000} s: ${why}${goesOn}`,
    ERRNO.ETIMEDOUT,
    {
      exitCode: EXIT.timedOut,
      hint:
        holders === ""
          ? "close whatever has the disk open, see: ublk-bun list"
          : "a server that does not answer must be killed (kill -9), which ends the wait",
    },
  );
}
