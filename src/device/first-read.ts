// The proof that a disk can be used: its first read comes back.

import { open } from "node:fs/promises";

import { EXIT, UblkError } from "../errors.ts";
import { diskPath, inFlight } from "./disk.ts";
import type { Interrupt } from "./interrupt.ts";
import { processName } from "./processes.ts";

const RETRY_MS = 5;

export interface FirstReadOptions {
  readonly timeoutMs: number;
  readonly interrupt: Interrupt;
  readonly daemon: Bun.Subprocess;
}

/**
 * Resolves with true when the disk's first block has been read, with false when the daemon has died
 * before. Throws with exit 124 at the deadline: a read may wait for the server for ever.
 */
export async function firstRead(id: number, options: FirstReadOptions): Promise<boolean> {
  const { timeoutMs, interrupt, daemon } = options;
  const { promise: late, resolve } = Promise.withResolvers<"late">();
  const timer = setTimeout(() => resolve("late"), timeoutMs);
  const over = { isOver: false };
  const read = readWhenThere(id, interrupt, over);
  const died = daemon.exited.then(() => "died" as const);
  try {
    const outcome = await Promise.race([read, died, late]);
    if (outcome === "late") throw lateError(id, timeoutMs, daemon.pid);
    return outcome === "read";
  } finally {
    clearTimeout(timer);
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

function lateError(id: number, timeoutMs: number, pid: number): UblkError {
  const path = diskPath(id);
  const count = inFlight(id);
  const server = `its server, pid ${pid} (${processName(pid)})`;
  const [why, hint] =
    count > 0
      ? [`${server}, holds ${count} request${count === 1 ? "" : "s"}`, "see its log"]
      : [`"${path}" does not appear`, "is devtmpfs mounted on /dev? is udev running?"];
  return new UblkError(
    `Device ${id} is live, but cannot be read within ${timeoutMs / 1000} s: ${why}`,
    { exitCode: EXIT.timedOut, hint },
  );
}
