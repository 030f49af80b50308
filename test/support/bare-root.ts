// A root folder with the executable, glibc, /proc, /sys, /dev and /run in it, and nothing else.

import { mkdirSync } from "node:fs";
import { basename, dirname } from "node:path";

import { program, runOk } from "./program.ts";

/** Opened by the runtime when it needs them: of glibc, and so on every host, though ldd is silent. */
const GLIBC = ["libc.so.6", "libpthread.so.0", "libdl.so.2", "libm.so.6"];
/** What of glibc the executable may need besides. */
const LOADER = /^(ld-linux-(x86-64\.so\.2|aarch64\.so\.1)|linux-vdso\.so\.1)$/;

/** The folder, to `chroot` into; everything mounted there goes at the end of its scope. */
export class BareRoot implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** `isMount`: the root is a read-only file system of its own, with /run writable but noexec. */
  static async make(path: string, { isMount }: { readonly isMount: boolean }): Promise<BareRoot> {
    mkdirSync(path, { recursive: true });
    if (isMount) await runOk("mount", "-t", "tmpfs", "bare", path);
    for (const name of ["proc", "sys", "dev", "run"]) mkdirSync(`${path}/${name}`);
    const libraries = await neededLibraries();
    for (const library of libraries) {
      mkdirSync(`${path}${dirname(library)}`, { recursive: true });
      await runOk("cp", "-L", library, `${path}${library}`);
    }
    await runOk("cp", program, `${path}/ublk-bun`);
    await runOk("mount", "-t", "proc", "proc", `${path}/proc`);
    await runOk("mount", "-t", "sysfs", "sys", `${path}/sys`);
    await runOk("mount", "-t", "devtmpfs", "dev", `${path}/dev`);
    await runOk("mount", "-t", "tmpfs", "-o", "noexec", "run", `${path}/run`);
    if (isMount) await runOk("mount", "-o", "remount,ro", path);
    return new BareRoot(path);
  }

  /** The command that runs `ublk-bun WORD…` in it, with no environment at all. */
  command(...words: string[]): string[] {
    return ["env", "-i", Bun.which("chroot") ?? "chroot", this.path, "/ublk-bun", ...words];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const name of ["run", "dev", "sys", "proc"]) await runOk("umount", `${this.path}/${name}`);
    await runOk("umount", "-q", this.path).catch(() => "");
    await runOk("rm", "-rf", this.path);
  }
}

/** What ldd lists, the loader included. Throws when the executable needs anything but glibc. */
async function neededLibraries(): Promise<string[]> {
  const lines = (await runOk("ldd", program)).trim().split("\n");
  const names = lines.map((line) => basename(line.trim().split(" ")[0]!));
  const foreign = names.filter((name) => !GLIBC.includes(name) && !LOADER.test(name));
  if (foreign.length > 0) throw new Error(`not of glibc, but needed: ${foreign.join(", ")}`);
  const listed = lines.flatMap((line) => /(\/\S+) \(0x/.exec(line)?.[1] ?? []);
  const libc = listed.find((path) => path.endsWith("/libc.so.6"))!;
  return [...new Set([...listed, ...GLIBC.map((name) => `${dirname(libc)}/${name}`)])];
}
