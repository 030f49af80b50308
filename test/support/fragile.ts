// Some kernels crash over requests that are given to a server while it dies (docs/troubleshooting.md): there
// a disk is kept still while its server is killed.

import { readFileSync } from "node:fs";
import { release } from "node:os";

import { crashesUnderLoad } from "../../src/device/doctor.ts";
import { run } from "./run.ts";

export const isFragile = crashesUnderLoad(release());

/**
 * Freezes what is mounted on device `id` where the kernel is fragile: its own threads write there too.
 * Calling what is returned lets them go on; what they send then waits for the next server.
 */
export async function freeze(id: number): Promise<() => void> {
  const mounted = new RegExp(`^/dev/ublkb${id}(?:p\\d+)? (\\S+)`, "gm");
  const mounts = isFragile ? readFileSync("/proc/mounts", "utf8").matchAll(mounted) : [];
  const folders = [...mounts].map(([, folder]) => folder!);
  for (const folder of folders) await run(["fsfreeze", "-f", folder]);
  return () => {
    // Not awaited: they write to the disk.
    for (const folder of folders) Bun.spawn(["fsfreeze", "-u", folder]);
  };
}
