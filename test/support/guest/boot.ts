// The shell scripts of one guest run: boot.sh builds its root, main.sh runs the command in it.

import { join } from "node:path";

import { cacheRoot } from "../cache.ts";
import { searchPath } from "../run.ts";
import { MOUNT_9P } from "./initramfs.ts";
import type { Kernel } from "./kernel.ts";

/** What one run wants of its guest. */
export interface Boot {
  readonly kernel: Kernel;
  /** Shell script text. */
  readonly command: string;
  /** Absolute; the command's current folder. */
  readonly cwd: string;
  /** Absolute; a folder of the host's that the guest may write, at the same path in both. */
  readonly share: string | undefined;
  /** Load ublk_drv before the command. */
  readonly driver: boolean;
  readonly env: Readonly<Record<string, string>>;
}

/** 9p mount tag of the writable share. */
export const SHARE_TAG = "share";

/** Where the control share is mounted in the guest. */
const CONTROL = "/run/ublk-guest";

/** Folders of the host's that the guest gets fresh, since what is in them belongs to the host. */
const FRESH = ["/run", "/tmp", "/dev/shm"];

/** One shell word, whatever is in `text`. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * Sourced by the initramfs's /init with the overlay of the host's root at /root. Ends in main.sh,
 * as process 1 of the real root.
 */
export function bootScript(boot: Boot): string {
  // A clone or a cache below /tmp would vanish under the fresh one: hold it and put it back.
  const hidden = [boot.cwd, cacheRoot(), boot.kernel.moduleRoot].filter((path) =>
    FRESH.some((fresh) => path.startsWith(`${fresh}/`)),
  );
  const kept = [...new Set(hidden)].toSorted();
  const modules = `lib/modules/${boot.kernel.version}`;
  return `PATH=/bin
for name in chmod cp ln mkdir mount switch_root; do alias $name="/bin/busybox $name"; done
${kept.map(hold).join("\n")}
mkdir -p ${quote(`/root/${modules}`)}
mount --bind ${quote(join("/root", boot.kernel.moduleRoot, modules))} ${quote(`/root/${modules}`)}
mount --move /dev /root/dev
mount --move /proc /root/proc
mount -t sysfs sys /root/sys
mkdir -p /root/dev/pts /root/dev/shm
mount -t devpts -o ptmxmode=666 devpts /root/dev/pts
mount -t tmpfs -o mode=1777 shm /root/dev/shm
mount -t tmpfs -o mode=755 run /root/run
mount -t tmpfs -o mode=1777 tmp /root/tmp
${kept.map(putBack).join("\n")}
${boot.share === undefined ? "" : mountShare(boot.share)}
mkdir -p /root/run/lock /root/run/home /root${CONTROL}
cp /bin/busybox /root/run/busybox
mount --move /control /root${CONTROL}
exec /bin/busybox switch_root /root /run/busybox sh ${CONTROL}/main.sh
`;
}

/** Runs as process 1: the rest of the setting up, the command, its status, power off. */
export function mainScript(boot: Boot): string {
  const env = {
    PATH: searchPath(),
    HOME: "/run/home",
    LANG: "C.UTF-8",
    TERM: "dumb",
    NO_COLOR: "1",
    UBLK_BUN_CACHE: cacheRoot(),
    UBLK_GUEST: boot.kernel.version,
    ...boot.env,
  };
  const exports = Object.entries(env).map(([name, value]) => `export ${name}=${quote(value)}`);
  // Programs by full path: to busybox's shell a bare name means its own.
  return `b=/run/busybox
PATH=/usr/sbin:/usr/bin:/sbin:/bin
$b ln -s /proc/self/fd /dev/fd
$b ln -s fd/0 /dev/stdin
$b ln -s fd/1 /dev/stdout
$b ln -s fd/2 /dev/stderr
# As systemd leaves it: mounts reach the namespaces made from this one.
$b mount --make-rshared /
$b mount -t cgroup2 cgroup /sys/fs/cgroup
$b mount -t debugfs debug /sys/kernel/debug
$b hostname ublk-guest
$b ip link set lo up
echo 120 > /proc/sys/kernel/hung_task_timeout_secs
echo -1 > /proc/sys/kernel/hung_task_warnings
ulimit -Hn 524288
# Held open, since its settings go with its last user: no carriage returns, no echo.
exec 3<> /dev/hvc0
$b stty -F /dev/hvc0 raw -echo
${boot.driver ? "/sbin/modprobe ublk_drv" : ""}
${exports.join("\n")}
cd ${quote(boot.cwd)}
echo > ${CONTROL}/begun
$b setsid /bin/sh ${CONTROL}/command.sh < /dev/null >&3 2>&1 3>&-
echo $? > ${CONTROL}/exit-code
# A file system on a disk that nobody serves would keep it for ever.
$b sync &
for second in 1 2 3 4 5 6 7 8 9 10; do $b kill -0 $! || break; $b sleep 1; done 2> /dev/null
echo o > /proc/sysrq-trigger
while :; do $b sleep 60; done
`;
}

function hold(path: string, index: number): string {
  return `mkdir /keep/${index}; mount --bind ${quote(`/root${path}`)} /keep/${index}`;
}

function putBack(path: string, index: number): string {
  const place = quote(`/root${path}`);
  return `mkdir -p ${place}; mount --move /keep/${index} ${place}`;
}

function mountShare(path: string): string {
  const place = quote(`/root${path}`);
  return `mkdir -p ${place}; mount -t 9p -o ${MOUNT_9P},cache=mmap ${SHARE_TAG} ${place}`;
}
