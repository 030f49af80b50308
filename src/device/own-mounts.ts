// Keeps mounts of the daemon's own disk out of the daemon's mount namespace, which receives the
// host's: held here, they would keep the disk busy after the host has unmounted it.

import type { Control } from "../control/control.ts";
import { MNT, O, open, umount2 } from "../ffi/libc.ts";
import { diskAndPartitions } from "./disk.ts";
import { mountsOf } from "./holders.ts";

const POLLPRI = 0x2;
const POLLERR = 0x8;

/**
 * Watches until the process ends; woken by the kernel at each change of the mount table. Only for a
 * process in a mount namespace of its own: elsewhere it would unmount the user's file system.
 */
export async function watchOwnMounts(control: Control, id: number): Promise<void> {
  const fd = open("/proc/self/mountinfo", O.RDONLY | O.CLOEXEC);
  if (fd < 0) return;
  for (;;) {
    detachOwnMounts(id);
    await control.whenReady(fd, POLLPRI | POLLERR);
  }
}

function detachOwnMounts(id: number): void {
  const numbers = diskAndPartitions(id).map((part) => part.numbers);
  for (const where of mountsOf("self", numbers)) umount2(where, MNT.DETACH);
}
