// QEMU: which accelerator works here, and the command line of a guest.

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { cached, progress } from "../cache.ts";
import { SHARE_TAG } from "./boot.ts";
import { initramfs, TAG } from "./initramfs.ts";
import type { Kernel } from "./kernel.ts";

export type Accelerator = "kvm" | "tcg";

/** A guest as QEMU sees it. */
export interface Machine {
  readonly kernel: Kernel;
  readonly initramfs: string;
  readonly acceleration: Accelerator;
  readonly memoryMb: number;
  readonly cpus: number;
  readonly ownClock: boolean;
  readonly parallel: boolean;
  /** Folder with boot.sh and main.sh; gets exit-code and kernel.log. */
  readonly control: string;
  readonly share: string | undefined;
}

// panic=-1 with -no-reboot: a dead kernel ends QEMU at once. The watchdogs are patient because an
// emulated CPU that the host does not schedule for half a minute is no bug of the kernel's.
const APPEND =
  "console=ttyS0 panic=-1 oops=panic mitigations=off audit=0 apparmor=0 selinux=0 " +
  "watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120 random.trust_cpu=on";

const KVM_PROBE_MS = 15_000;

/** The words that start `machine`; its console is QEMU's stdout. */
export function qemuCommand(machine: Machine): string[] {
  const { control, share, memoryMb, cpus } = machine;
  const acceleration = accelerationOf(machine);
  const words = bareCommand({ ...machine, acceleration }, join(control, "kernel.log"), APPEND);
  words.push("-m", `${memoryMb}`, "-smp", `${cpus}`, "-chardev", "stdio,id=output,signal=off");
  words.push("-device", "virtio-serial-pci", "-device", "virtconsole,chardev=output");
  words.push(...share9p("/", TAG.root, "readonly=on,"), ...share9p(control, TAG.control, ""));
  if (share !== undefined) words.push(...share9p(share, SHARE_TAG, ""));
  return words;
}

/**
 * "kvm" only where a guest has booted with it: a /dev/kvm that opens is no proof. The answer is
 * kept until the machine restarts; `UBLK_GUEST_ACCEL=kvm|tcg` settles it without asking.
 */
export async function accelerator(kernel: Kernel): Promise<Accelerator> {
  const chosen = process.env["UBLK_GUEST_ACCEL"];
  if (chosen === "kvm" || chosen === "tcg") return chosen;
  if (!existsSync("/dev/kvm")) return "tcg";
  const bootId = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  const folder = await cached(join("kvm", bootId), async (into) => {
    progress(`trying whether KVM works here (up to ${KVM_PROBE_MS / 1000} s, once)`);
    const answer = (await bootsWithKvm(kernel)) ? "kvm" : "tcg";
    await Bun.write(join(into, "accelerator"), answer);
  });
  return readFileSync(join(folder, "accelerator"), "utf8") === "kvm" ? "kvm" : "tcg";
}

async function bootsWithKvm(kernel: Kernel): Promise<boolean> {
  const machine = { kernel, initramfs: await initramfs(kernel), acceleration: "kvm" } as const;
  const words = [...bareCommand(machine, "/dev/null", `${APPEND} guest_probe=1`), "-m", "512"];
  const stdio = ["ignore", "ignore", "ignore"] as const;
  const child = Bun.spawn(words, {
    stdio: [...stdio],
    timeout: KVM_PROBE_MS,
    killSignal: "SIGKILL",
  });
  return (await child.exited) === 0;
}

const ACCELERATION = {
  kvm: ["-accel", "kvm", "-cpu", "host"],
  tcg: ["-accel", "tcg,thread=single,tb-size=1024", "-cpu", "max"],
  parallel: ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max"],
  // 2 ns an instruction, which is about what a real machine needs.
  clocked: ["-accel", "tcg,thread=single,tb-size=1024", "-icount", "shift=1", "-cpu", "max"],
} as const satisfies Readonly<Record<string, readonly string[]>>;

function accelerationOf({ acceleration, ownClock, parallel }: Machine): keyof typeof ACCELERATION {
  if (ownClock) return "clocked";
  return parallel && acceleration === "tcg" ? "parallel" : acceleration;
}

interface Bare {
  readonly kernel: Kernel;
  readonly initramfs: string;
  readonly acceleration: keyof typeof ACCELERATION;
}

function bareCommand(machine: Bare, kernelLog: string, append: string): string[] {
  // A guest must not outlive whoever started it, however that ends.
  const words = ["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"];
  words.push(...ACCELERATION[machine.acceleration]);
  words.push("-nodefaults", "-display", "none", "-no-reboot", "-serial", `file:${kernelLog}`);
  words.push("-kernel", machine.kernel.image, "-initrd", machine.initramfs, "-append", append);
  return words;
}

function share9p(path: string, tag: string, options: string): string[] {
  const folder = `path=${path.replaceAll(",", ",,")}`;
  const fsdev = `local,id=${tag},${folder},${options}security_model=none,multidevs=remap`;
  return ["-fsdev", fsdev, "-device", `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`];
}
