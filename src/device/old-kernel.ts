// What kernels before 6.16 need: they learn of a server's death from its commands and threads, not from
// the release of its char device.

import { writeFileSync } from "../builtin.ts";
import type { Control } from "../control/control.ts";
import { close, pidfd_open } from "../ffi/libc.ts";
import { UBLK_F } from "../ffi/ublk.ts";
import type { WaitOptions } from "./attach.ts";
import { within } from "./deadline.ts";
import { diskName } from "./disk.ts";
import { peek } from "./processes.ts";
import { CLEAN_ENV, selfCommand } from "./self.ts";

const POLLIN = 0x1;
/** The hidden subcommand that runs `setIoTimeout`. */
export const IO_TIMEOUT_COMMAND = "__io-timeout";
/** The block layer looks once a second at the most. */
const IO_TIMEOUT_MS = 1000;
const HELPER_MS_MAX = 5000;

/** QUIESCE came with the same Linux as the newer way. */
const isOld = ({ features }: Control) => (features & UBLK_F.QUIESCE) === 0n;

/**
 * When every tag of a queue is with a server that dies, such a kernel has no command to cancel and
 * hears of the death only when a request times out: 30 s, in which all I/O hangs. For a server that
 * lives the driver starts the clock anew each time, so a short one does no harm. It stays with the disk.
 * Source: ublk_timeout() in drivers/block/ublk_drv.c, Linux 6.12.
 *
 * By a process of its own: to set it the kernel waits for every request in flight, and whoever waits for
 * one that is never answered cannot even be killed.
 */
export async function noticeDeathSoon(control: Control, id: number): Promise<void> {
  if (!isOld(control)) return;
  const helper = Bun.spawn(selfCommand([IO_TIMEOUT_COMMAND, String(id)]), {
    stdio: ["ignore", "ignore", "ignore"],
    env: { ...CLEAN_ENV },
    cwd: "/",
    detached: true,
  });
  await within(HELPER_MS_MAX, helper.exited);
  helper.unref();
}

/** The helper's side. */
export function setIoTimeout(id: number): void {
  peek(() => writeFileSync(`/sys/block/${diskName(id)}/queue/io_timeout`, String(IO_TIMEOUT_MS)));
}

/** Such a kernel warns when it is asked for a device whose last server's threads still run. */
export async function untilDead(
  control: Control,
  pid: number,
  options: WaitOptions,
): Promise<void> {
  if (!isOld(control) || pid <= 0) return;
  const { timeoutMs, signal } = options;
  const pidfd = pidfd_open(pid, 0);
  if (pidfd < 0) return;
  const aborted = new Promise<void>((resolve) => {
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await within(timeoutMs, Promise.race([control.whenReady(pidfd, POLLIN), aborted]));
  close(pidfd);
  signal.throwIfAborted();
}
