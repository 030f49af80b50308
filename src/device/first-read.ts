// The proof that a disk can be used: its first read comes back.

import { open } from "node:fs/promises";

import { EXIT, UblkError } from "../errors.ts";
import { within } from "./deadline.ts";
import { diskPath, inFlight } from "./disk.ts";
import type { Interrupt } from "./interrupt.ts";
import { processName } from "./processes.ts";

const RETRY_MS = 5;
const SLOW_HINT = "a target that is slow needs a longer --timeout";

export interface FirstReadOptions {
  readonly timeoutMs: number;
  readonly interrupt: Interrupt;
  readonly daemon: Bun.Subprocess;
  /** A new device that cannot be read is taken back by the caller. */
  readonly isNew: boolean;
}

/**
 * Resolves with true when the disk's first block has been read, with false when the daemon has died
 * before. Throws with exit 124 at the deadline: a read may wait for the server for ever.
 */
export async function firstRead(id: number, options: FirstReadOptions): Promise<boolean> {
  const { timeoutMs, interrupt, daemon, isNew } = options;
  const over = { isOver: false };
  const read = readWhenThere(id, interrupt, over);
  const died = daemon.exited.then(() => "died" as const);
  try {
    const outcome = await within(timeoutMs, Promise.race([read, died]));
    if (outcome === "late") throw lateError(id, timeoutMs, { pid: daemon.pid, isNew });
    return outcome === "read";
  } finally {
    over.isOver = true;
    // When nobody waits for it any more.
    read.catch(() => {});
  }
}

/** The node may be a moment late, or still be root's (udev). */
async function readWhenThere(
  id: number,
  interrupt: Interrupt,
  over: { readonly isOver: boolean },
): Promise<"read"> {
  while (!over.isOver) {
    try {
      const file = await open(diskPath(id), "r");
      await file.read(new Uint8Array(512), 0, 512, 0).finally(() => file.close());
      return "read";
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code !== "ENOENT" && code !== "EACCES") return "read"; // An I/O error is an answer too.
      if (interrupt.signal !== undefined) throw interrupt.error;
    }
    await Bun.sleep(RETRY_MS);
  }
  return "read";
}

function lateError(
  id: number,
  timeoutMs: number,
  { pid, isNew }: { pid: number; isNew: boolean },
): UblkError {
  const path = diskPath(id);
  const count = inFlight(id);
  const server = `its server, pid ${pid} (${processName(pid)})`;
  const [why, hint] =
    count > 0
      ? [`${server}, does not answer ${count} request${count === 1 ? "" : "s"}`, SLOW_HINT]
      : [`"${path}" does not appear`, "is devtmpfs mounted on /dev? is udev running?"];
  return new UblkError(
    `Device ${id} cannot be read within ${timeoutMs / 1000} s: ${why}` +
      (isNew ? "; it was taken back" : ""),
    { exitCode: EXIT.timedOut, hint },
  );
}
