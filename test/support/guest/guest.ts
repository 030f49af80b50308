// Runs a command under a kernel with the ublk driver: in a QEMU guest, or on a host that has it.

import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import { progress } from "../cache.ts";
import { run } from "../run.ts";
import { bootScript, mainScript } from "./boot.ts";
import type { Boot } from "./boot.ts";
import { runOnHost } from "./host.ts";
import { initramfs } from "./initramfs.ts";
import { kernelProblems } from "./kernel-log.ts";
import { kernelByName } from "./kernel.ts";
import type { KernelName } from "./kernel.ts";
import { accelerator, qemuCommand } from "./qemu.ts";
import { watch } from "./watch.ts";

/** What to run, and where. */
export interface GuestOptions {
  readonly kernel: KernelName;
  /** Shell script text; runs as root, in the host's current folder, stdin empty. */
  readonly command: string;
  /** The guest is killed after this long, boot included. */
  readonly timeoutMs: number;
  /** A folder of the host's that the command may write, at the same path; the rest is read-only. */
  readonly share?: string;
  readonly memoryMb?: number;
  readonly cpus?: number;
  /** Its clock counts its instructions, so that no busy host makes it late. Slower. */
  readonly ownClock?: boolean;
  /**
   * Its emulated CPUs run at the same time, each in a thread of the host's, and not in turns: for figures,
   * and for what can only go wrong so. It costs twice the host's time, most of it for waiting on each other.
   */
  readonly parallel?: boolean;
  /** Load ublk_drv before the command (default true; `UBLK_GUEST_NO_MODULE=1` says no). */
  readonly driver?: boolean;
  /** More environment; PATH, HOME, LANG, NO_COLOR, UBLK_BUN_CACHE and UBLK_GUEST are there. */
  readonly env?: Readonly<Record<string, string>>;
  /** Keep the command's exit code even if the kernel complained. */
  readonly allowKernelProblems?: boolean;
  /** Gets stdout and stderr as they come. */
  readonly onOutput?: (text: string) => void;
}

/** How a run ended. */
export interface GuestResult {
  /** The command's own, or one of GUEST_EXIT. */
  readonly exitCode: number;
  /** stdout and stderr as they came. */
  readonly output: string;
  readonly kernelLog: string;
  /** Lines of the log that report a bug, a warning, a stuck task or a panic. */
  readonly kernelProblems: readonly string[];
}

const BOOTS_MAX = 3;

/** Exit codes that the harness sets itself. */
export const GUEST_EXIT = {
  /** The guest ended before the command did: a panic, or QEMU would not start. */
  died: 98,
  /** The kernel log has problems; `allowKernelProblems` was not given. */
  kernelProblems: 99,
  timedOut: 124,
} as const;

/**
 * Runs `command` as root under `kernel` and waits for it. The guest's root is the host's, read-only
 * below an overlay, with fresh /proc, /sys, /dev, /run and /tmp; ublk nodes come and go through
 * devtmpfs, as there is no udev. With `UBLK_TEST=host` it runs on this host instead. Throws only
 * when the guest cannot be built.
 */
export async function runGuest(options: GuestOptions): Promise<GuestResult> {
  const ended =
    process.env["UBLK_TEST"] === "host" ? await runOnHost(options) : await runInQemu(options);
  const problems = kernelProblems(ended.kernelLog);
  const isOver = ended.exitCode !== GUEST_EXIT.died && ended.exitCode !== GUEST_EXIT.timedOut;
  const isSpoilt = isOver && problems.length > 0 && options.allowKernelProblems !== true;
  const exitCode = isSpoilt ? GUEST_EXIT.kernelProblems : ended.exitCode;
  return { ...ended, exitCode, kernelProblems: problems };
}

/**
 * Emulated CPUs that patch each other's code can crash while they boot: a guest that never came to its
 * command is started again.
 */
async function runInQemu(options: GuestOptions): Promise<Omit<GuestResult, "kernelProblems">> {
  for (let boots = 1; ; boots++) {
    const { hasBegun, ...ended } = await bootOnce(options);
    if (hasBegun || boots === BOOTS_MAX || ended.exitCode !== GUEST_EXIT.died) return ended;
    progress(`guest (${options.kernel}): died while booting, trying again`);
  }
}

async function bootOnce(
  options: GuestOptions,
): Promise<Omit<GuestResult, "kernelProblems"> & { readonly hasBegun: boolean }> {
  await run(["qemu-system-x86_64", "--version"]);
  const kernel = await kernelByName(options.kernel);
  const control = mkdtempSync(join(tmpdir(), "ublk-guest-"));
  try {
    const share = options.share === undefined ? undefined : resolve(options.share);
    const boot: Boot = {
      kernel,
      command: options.command,
      cwd: process.cwd(),
      share,
      driver: options.driver ?? !process.env["UBLK_GUEST_NO_MODULE"],
      env: options.env ?? {},
    };
    writeFileSync(join(control, "boot.sh"), bootScript(boot));
    writeFileSync(join(control, "main.sh"), mainScript(boot));
    writeFileSync(join(control, "command.sh"), `${boot.command}\n`);
    const words = qemuCommand({
      kernel,
      initramfs: await initramfs(kernel),
      acceleration: await accelerator(kernel),
      memoryMb: options.memoryMb ?? 4096,
      cpus: options.cpus ?? 2,
      ownClock: options.ownClock ?? false,
      parallel: options.parallel ?? false,
      control,
      share,
    });
    const { output, isTimedOut } = await watch(words, options);
    const logFile = join(control, "kernel.log");
    const kernelLog = existsSync(logFile) ? readFileSync(logFile, "utf8") : "";
    const exitCode = isTimedOut ? GUEST_EXIT.timedOut : status(control);
    return { exitCode, output, kernelLog, hasBegun: existsSync(join(control, "begun")) };
  } finally {
    rmSync(control, { recursive: true, force: true });
  }
}

function status(control: string): number {
  const file = join(control, "exit-code");
  const text = existsSync(file) ? readFileSync(file, "utf8").trim() : "";
  return text === "" ? GUEST_EXIT.died : Number(text);
}
