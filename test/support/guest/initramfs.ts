// The guest's initramfs: busybox, the modules needed before there is a root, and an /init.

import { basename, join } from "node:path";

import { cached } from "../cache.ts";
import { fetchPackages } from "../debian.ts";
import { run } from "../run.ts";
import { cpio } from "./cpio.ts";
import type { Entry } from "./cpio.ts";
import { loadOrder } from "./kernel.ts";
import type { Kernel } from "./kernel.ts";

/** The 9p mount tags that the initramfs looks for; qemu.ts offers them. */
export const TAG = { root: "host-root", control: "control" } as const;

const MODULES = ["virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay"];

/** Options for mounting a 9p share; `cache` goes after them. */
export const MOUNT_9P = "trans=virtio,version=9p2000.L,msize=512000";

// Minimal because it is cached: what differs from run to run is in the control share's boot.sh. An
// unknown `name=value` of the kernel's command line reaches /init as an environment variable.
const INIT = `#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
if [ -n "$guest_probe" ]; then echo o > /proc/sysrq-trigger; $b sleep 60; fi
for module in /modules/*; do $b insmod $module; done
$b mount -t devtmpfs dev /dev
$b mount -t 9p -o ro,${MOUNT_9P},cache=loose ${TAG.root} /host
$b mount -t 9p -o ${MOUNT_9P},cache=none ${TAG.control} /control
$b mount -t tmpfs rw /rw
$b mkdir /rw/upper /rw/work
$b mount -t overlay -o lowerdir=/host,upperdir=/rw/upper,workdir=/rw/work root /root
. /control/boot.sh
`;

/** Path of the initramfs for `kernel`; a new kernel, /init or list of modules makes a new one. */
export async function initramfs(kernel: Kernel): Promise<string> {
  const files = await loadOrder(kernel, MODULES);
  const hash = Bun.hash([kernel.version, kernel.moduleRoot, INIT, ...files].join("\n"));
  const name = join("initramfs", `${kernel.version}-${hash.toString(16)}`);
  const folder = await cached(name, async (into) => {
    const archive = cpio(await entries(files, into));
    await Bun.write(join(into, "initramfs.zst"), Bun.zstdCompressSync(archive, { level: 9 }));
  });
  return join(folder, "initramfs.zst");
}

async function entries(modules: readonly string[], scratch: string): Promise<Entry[]> {
  const busybox = join(await fetchPackages("trixie", ["busybox-static"]), "usr/bin/busybox");
  const folders = ["bin", "control", "dev", "host", "keep", "modules", "proc", "root", "rw", "sys"];
  const list: Entry[] = folders.map((path) => ({ path }));
  list.push({ path: "bin/busybox", content: await Bun.file(busybox).bytes() });
  list.push({ path: "init", content: Buffer.from(INIT) });
  for (const [index, file] of modules.entries()) {
    // The shell's glob sorts, so a number in front of the name keeps the order of loading.
    const path = `modules/${String(index).padStart(2, "0")}-${basename(file).replace(/\.xz$/, "")}`;
    list.push({ path, content: await uncompressed(file, scratch) });
  }
  return list;
}

// Unpacked here, because the guest is emulated and ten times slower.
async function uncompressed(file: string, scratch: string): Promise<Uint8Array> {
  if (!file.endsWith(".xz")) return Bun.file(file).bytes();
  const copy = join(scratch, basename(file));
  await run(["cp", file, copy]);
  await run(["xz", "-d", copy]);
  const content = await Bun.file(copy.slice(0, -3)).bytes();
  await run(["rm", copy.slice(0, -3)]);
  return content;
}
