// STOP_DEV and DEL_DEV, sent by a process of their own: they cannot be cancelled, and whoever sent
// one cannot end before it does, not even by kill -9. So whoever waits for it can stop waiting.

import { delDev, delDevAsync, stopDev, tryStopDev } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { commandError } from "../control/diagnosis.ts";
import { EXIT, KernelError, UblkError } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";
import { close, O, open } from "../ffi/libc.ts";
import { writeAll } from "../write.ts";
import { within } from "./deadline.ts";
import { diskPath, inFlight } from "./disk.ts";
import { describeCharHolders } from "./holders.ts";
import { isAlive } from "./processes.ts";
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

/** What takes back a failed `add` may take this long, however short --timeout is. */
const CLEAN_UP_MS_MIN = 20_000;

/** The deadline of each step that takes a half-made device back. */
export function cleanUpMs(timeoutMs: number): number {
  return Math.max(timeoutMs, CLEAN_UP_MS_MIN);
}

export interface SendOptions {
  readonly timeoutMs: number;
  readonly liburing: string;
}

/** Runs `verb` in a helper process. KernelError with exit 124 when it is not back in time. */
export async function sendByHelper(
  verb: TrappedVerb,
  id: number,
  { timeoutMs, liburing }: SendOptions,
): Promise<void> {
  // Once the kernel has begun to take the disk down, sysfs may not tell any more.
  const requestsBefore = inFlight(id);
  const helper = Bun.spawn(selfCommand([SEND_COMMAND, verb, String(id), liburing]), {
    // Nothing of the caller's: whoever reads our output to its end must not wait for a stuck helper.
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...CLEAN_ENV },
    cwd: "/",
    detached: true,
  });
  const outputs = [helper.stdout, helper.stderr].map((stream) => new Response(stream).text());
  const ended = await within(timeoutMs, Promise.all(outputs));
  if (ended === "late") {
    helper.unref();
    throw stuckError(verb, id, timeoutMs, { helper: helper.pid, requestsBefore });
  }
  const [answer, complaint = ""] = ended;
  if (answer === "") {
    const what = `The helper that sent ${TRAPPED[verb].name} died: ${complaint.trim()}`;
    throw new UblkError(what, { hint: "what became of the device: ublk-bun list" });
  }
  const errno = Number(answer);
  if (errno !== 0) throw commandError(TRAPPED[verb], id, errno);
}

/** The helper's side: sends the command and writes its errno (0: done) to stdout. */
export async function sendTrapped(control: Control, verb: TrappedVerb, id: number): Promise<void> {
  writeAll(1, String(await attempt(control, verb, id)));
}

async function attempt(control: Control, verb: TrappedVerb, id: number): Promise<number> {
  // The device is unmounted and closed, or this open fails; while it lasts nobody can mount it.
  const fd = verb === "stop-unused" ? open(diskPath(id), O.RDONLY | O.EXCL | O.CLOEXEC) : -1;
  if (verb === "stop-unused" && fd < 0 && fd !== -ERRNO.ENOENT) return -fd;
  try {
    await control.run(TRAPPED[verb], id, undefined, { timeoutMs: 2 ** 31 - 1 });
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
