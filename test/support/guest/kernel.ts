// The kernels that guests boot: Debian's 6.12 and 7.3, or one of your own.

import { readdirSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

import { cached } from "../cache.ts";
import { fetchPackages } from "../debian.ts";
import { run } from "../run.ts";

/** The kernels every kernel test runs on: long-term, and the newest that its suite has. */
export const KERNELS = ["6.12", "7.3"] as const;

export type KernelName = (typeof KERNELS)[number];

/** A kernel ready to boot. */
export interface Kernel {
  /** Its `uname -r`. */
  readonly version: string;
  readonly image: string;
  /** The tree whose `lib/modules/<version>` holds its modules, with depmod's indexes. */
  readonly moduleRoot: string;
}

const SUITES: Readonly<Record<KernelName, string>> = {
  "6.12": "trixie",
  "7.3": "trixie-backports",
};

/**
 * The kernel `name`, fetched the first time. `UBLK_KERNEL` (an image) and `UBLK_MODULES` (its
 * `…/lib/modules/<version>`, after depmod) together replace whatever was asked for.
 */
export async function kernelByName(name: KernelName): Promise<Kernel> {
  const image = process.env["UBLK_KERNEL"];
  const modules = process.env["UBLK_MODULES"];
  if (image !== undefined && modules !== undefined) return ownKernel(image, modules);
  if (image !== undefined || modules !== undefined) {
    throw new Error("UBLK_KERNEL and UBLK_MODULES go together: an image and its modules");
  }
  const folder = await cached(join("kernels", SUITES[name]), (into) => unpack(SUITES[name], into));
  const [version] = readdirSync(join(folder, "lib/modules"));
  if (version === undefined) throw new Error(`No kernel in "${folder}" (remove it and try again)`);
  return { version, image: join(folder, "vmlinuz"), moduleRoot: folder };
}

/** Files to insmod, in order, for `names` and all they need. Empty for what is built in. */
export async function loadOrder(kernel: Kernel, names: readonly string[]): Promise<string[]> {
  const files = new Set<string>();
  for (const name of names) {
    const words = ["-d", kernel.moduleRoot, "-S", kernel.version, "--show-depends", name];
    const shown = await run(["modprobe", ...words]);
    for (const [, file] of shown.matchAll(/^insmod (\S+)/gm)) if (file) files.add(file);
  }
  return [...files];
}

function ownKernel(image: string, modules: string): Kernel {
  const folder = resolve(modules);
  const isTree = dirname(folder).endsWith("/lib/modules");
  if (!isTree) throw new Error(`UBLK_MODULES is "${modules}", not a …/lib/modules/<version>`);
  const moduleRoot = resolve(folder, "../../..");
  return { version: basename(folder), image: resolve(image), moduleRoot };
}

async function unpack(suite: string, into: string): Promise<void> {
  const follow = /^linux-(image|base|binary|modules)-\d/;
  const packages = await fetchPackages(suite, ["linux-image-amd64"], { follow });
  // 6.12 is packed as boot/vmlinuz-VERSION and lib/modules; 7.3 as usr/lib/modules/VERSION/vmlinuz.
  const [image] = new Bun.Glob("**/vmlinuz*").scanSync({ cwd: packages });
  const [order] = new Bun.Glob("**/modules.order").scanSync({ cwd: packages });
  if (image === undefined || order === undefined) throw new Error(`No kernel in "${packages}"`);
  const modules = join(packages, dirname(order));
  const version = basename(modules);
  await run(["mkdir", "-p", join(into, "lib/modules")]);
  await run(["cp", "-rl", modules, join(into, "lib/modules", version)]);
  await run(["cp", "-l", join(packages, image), join(into, "vmlinuz")]);
  await run(["depmod", "-b", into, version]);
}
