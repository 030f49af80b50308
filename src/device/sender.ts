// The helper's side of helper.ts: a process that may get stuck in the kernel, for another that may not.

import { delDev, delDevAsync, getParams, stopDev, tryStopDev } from "../control/commands/index.ts";
import { Control } from "../control/control.ts";
import { KernelError } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";
import { close, O, open, pread } from "../ffi/libc.ts";
import { liburingPath, loadLiburing } from "../ffi/liburing.ts";
import { mapMemory } from "../ffi/memory.ts";
import { writeAll } from "../write.ts";
import { blockBytes, diskPath } from "./disk.ts";
import { raiseFileLimit } from "./file-limit.ts";
import { findDevice } from "./find-device.ts";
import { identityText } from "./identity.ts";

/** The hidden subcommand that runs `runHelper`; its words are one of these three, an id, and a liburing. */
export const SEND_COMMAND = "__send";
/** Sends the verbs that come on stdin, to the device of the identity that is the fourth word. */
export const SEND = "commands";
/** GET_PARAMS changes nothing, but waits for whoever changes the device. */
export const ASK_PARAMS = "get-params";
/** Not a command, but may wait for the disk's server as long as those. */
export const READ_DISK = "read";

/** "stop-unused" is TRY_STOP_DEV for kernels without it: STOP_DEV behind an exclusive open. */
export const TRAPPED = {
  stop: stopDev,
  "try-stop": tryStopDev,
  "stop-unused": stopDev,
  del: delDev,
  "del-async": delDevAsync,
} as const;
export type TrappedVerb = keyof typeof TRAPPED;

const FOR_EVER_MS = 2 ** 31 - 1;

/** Answers a line for each thing that is done: the errno of a command (0: done), or what was asked for. */
export async function runHelper(words: readonly string[]): Promise<void> {
  const [what, idWord, liburing, identity] = words;
  const id = Number(idWord);
  if (what === READ_DISK) return answer(String(readDisk(id)));
  raiseFileLimit();
  const library = loadLiburing(liburingPath(liburing || undefined));
  using control = await Control.open({ liburing: library, timeoutMs: FOR_EVER_MS });
  if (what === ASK_PARAMS) {
    const params = await control.run(getParams, id, undefined);
    return answer(JSON.stringify(params, bigintsAsTexts));
  }
  for await (const verb of console) {
    // The runtime ends its lines with one that nobody has written.
    if (!Object.hasOwn(TRAPPED, verb)) break;
    // Another device with its id is left alone.
    const info = await findDevice(control, id);
    const isIt = info !== undefined && identityText(info.identity) === identity;
    answer(String(isIt ? await attempt(control, verb as TrappedVerb, id) : ERRNO.ENODEV));
  }
}

const answer = (text: string) => void writeAll(1, `${text}\n`);

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
    await control.run(TRAPPED[verb], id, undefined);
    return 0;
  } catch (error) {
    if (error instanceof KernelError) return error.errno;
    throw error;
  } finally {
    if (fd >= 0) close(fd);
  }
}
