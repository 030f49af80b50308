// The death of a device's server, as the kernel tells of it: a pidfd, no looking again and again.

import { constants } from "node:os";

import type { Control } from "../control/control.ts";
import { ERRNO } from "../ffi/errno.ts";
import { close, pidfd_open, pidfdExitStatus } from "../ffi/libc.ts";
import { holdsChar } from "./holders.ts";

const POLLIN = 0x1;
/** Its parent hears of a death a moment after us; then the kernel tells what it was. */
const STATUS_LOOKS = 5;

export interface Death {
  /** Milliseconds since 1970. */
  readonly at: number;
  /**
   * A signal's name, or "exit code N"; undefined where the kernel does not tell (before 6.15). It comes
   * a moment after the death, and nobody should wait for it who has something to do.
   */
  readonly how: Promise<string | undefined>;
}

/** Resolves when process `pid` is dead; undefined when it does not serve device `id` any more. */
export function deathOf(control: Control, pid: number, id: number): Promise<Death> | undefined {
  const pidfd = pidfd_open(pid, 0);
  if (pidfd < 0) return undefined;
  // The number may have become another process's before it was opened.
  if (!holdsChar(pid, id)) {
    close(pidfd);
    return undefined;
  }
  return control.whenReady(pidfd, POLLIN).then(() => {
    const at = Date.now();
    return { at, how: howItEnded(pidfd).finally(() => close(pidfd)) };
  });
}

async function howItEnded(pidfd: number): Promise<string | undefined> {
  for (let look = 0; look < STATUS_LOOKS; look++) {
    const status = pidfdExitStatus(pidfd);
    if (status >= 0) return statusText(status);
    if (status !== -ERRNO.ESRCH) return undefined;
    await Bun.sleep(1);
  }
  return undefined;
}

/** What wait(2) says, in words: the low seven bits are a signal, the byte above it an exit code. */
export function statusText(status: number): string {
  const signal = status & 0x7f;
  if (signal === 0) return `exit code ${(status >> 8) & 0xff}`;
  const name = Object.entries(constants.signals).find(([, number]) => number === signal)?.[0];
  return name ?? `signal ${signal}`;
}
