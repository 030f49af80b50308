// The proof that a disk can be used: its first read comes back, from its server. What the page cache has
// of a disk in use is no proof, so the read is a direct one. Those wait where no signal reaches, which must
// not keep the launcher: its ring sends the read where that can be done at once, else a helper process does.

import type { FileHandle } from "node:fs/promises";

import { openFile } from "../builtin.ts";
import type { Control } from "../control/control.ts";
import { EXIT, UblkError } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";
import { O } from "../ffi/libc.ts";
import { mapMemory } from "../ffi/memory.ts";
import { within } from "./deadline.ts";
import { blockBytes, diskPath, inFlight } from "./disk.ts";
import { readByHelper } from "./helper.ts";
import type { Interrupt } from "./interrupt.ts";
import { processName } from "./processes.ts";

const RETRY_MS = 5;
const SLOW_HINT = "a target that is slow needs a longer --timeout";

export interface FirstReadOptions {
  readonly control: Control;
  readonly liburing: string;
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
  const { timeoutMs, daemon, isNew } = options;
  const over = { isOver: false };
  const read = readWhenThere(id, options, over);
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

async function readWhenThere(
  id: number,
  options: FirstReadOptions,
  over: { readonly isOver: boolean },
): Promise<"read"> {
  const file = await openWhenThere(id, options.interrupt, over);
  if (file === undefined) return "read";
  try {
    const memory = mapMemory(blockBytes(id));
    const result = await options.control.readNow(file.fd, memory);
    memory[Symbol.dispose]();
    // Every tag is taken, or the block is dirty: whoever reads it now waits. An I/O error is an answer.
    if (result === -ERRNO.EAGAIN || result === -ERRNO.EOPNOTSUPP) await readByHelper(id, options);
  } finally {
    await file.close();
  }
  return "read";
}

/** The node may be a moment late, or still be root's (udev). undefined: it is there, and gives an error. */
async function openWhenThere(
  id: number,
  interrupt: Interrupt,
  over: { readonly isOver: boolean },
): Promise<FileHandle | undefined> {
  while (!over.isOver) {
    try {
      return await openFile(diskPath(id), O.RDONLY | O.DIRECT);
    } catch (cause) {
      const { code } = cause as NodeJS.ErrnoException;
      if (code !== "ENOENT" && code !== "EACCES") return undefined; // An answer too.
      if (interrupt.signal !== undefined) throw interrupt.error;
    }
    await Bun.sleep(RETRY_MS);
  }
  return undefined;
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
