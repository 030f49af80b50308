// Starts this program again: as a daemon, or as a helper that may get stuck in the kernel.

import { accessSync, readFileSync, statSync } from "../builtin.ts";
import { OK } from "../ffi/libc.ts";
import { peek } from "./processes.ts";

/** argv[0] of what must outlive everything else: at shutdown, init leaves such a process for last. */
export const DAEMON_ARGV0 = "@ublk-bun";

/**
 * What a child of ours knows of its surroundings: nothing that the caller's environment holds.
 * BUN_OPTIONS, LD_PRELOAD and their like must not reach a process that serves a disk as root.
 */
export const CLEAN_ENV: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  LANG: "C.UTF-8",
  // Should the runtime crash, it tells nobody but our log.
  BUN_ENABLE_CRASH_REPORTING: "0",
};

const isCompiled = Bun.main.startsWith("/$bunfs/");

const isExecutable = (path: string) =>
  peek(() => {
    accessSync(path, OK.X);
    return true;
  }) === true;

/** True while `pid` is one of our daemons and has not ended. */
export function isDaemon(pid: number): boolean {
  const words = pid > 0 ? peek(() => readFileSync(`/proc/${pid}/cmdline`, "utf8")) : undefined;
  return words?.startsWith(`${DAEMON_ARGV0}\0`) ?? false;
}

/** The command line that runs this program again, compiled or not; or `program`, another one of it. */
export function selfCommand(args: readonly string[], program?: string): string[] {
  if (program !== undefined) return [program, ...args];
  // The file may have been replaced meanwhile; the link still leads to what is running.
  return isCompiled ? ["/proc/self/exe", ...args] : [process.execPath, Bun.main, ...args];
}

/**
 * The program that last began to serve this device, where it is another than this one: whoever recovers
 * it must not take an upgrade back. Empty where that is this one, or is not there any more.
 */
export function programOf({ program }: { readonly program: string }): {
  readonly program?: string;
} {
  const [there, own] = [program, "/proc/self/exe"].map((path) => peek(() => statSync(path)));
  const isOther = there !== undefined && (there.ino !== own?.ino || there.dev !== own.dev);
  const isRunnable = isCompiled && isOther && isExecutable(program);
  return isRunnable ? { program } : {};
}

/** The same as a unit file would have it: what is at this path when it is started. */
export function ownProgram(): string[] {
  return isCompiled ? [process.execPath] : [process.execPath, Bun.main];
}
