// What a daemon must inherit from before its exec, so that every thread of it has it.

import { CLONE, close, mount, MS, O, open, PR, prctl, setns, unshare } from "../ffi/libc.ts";
import { readText, writeText } from "../ffi/small-files.ts";

/** A server that is killed for memory takes its disk's users with it; one of a person's own code: daemon.ts. */
const OOM_SCORE_ADJ = -1000;

export interface Surroundings {
  /** What this host does not allow, in words. */
  readonly refused: readonly string[];
  /** The calling thread, and all it starts, is in a mount namespace of its own. */
  readonly ownNamespace: boolean;
}

/**
 * Prepares the calling process for starting a daemon. All of it is best effort.
 * - PR_SET_IO_FLUSHER: its memory allocations must not wait for I/O to its own disk.
 * - A mount namespace of its own: a mount of its disk must not live in the namespace that dies
 *   with it, or the daemon's end waits for I/O that only the daemon could serve.
 *
 * The namespace is the calling thread's from then on: only for a process that is about to end, or that
 * starts servers alone (watch).
 */
export function prepareDaemonParent(): Surroundings {
  const refused: string[] = [];
  if (prctl(PR.SET_IO_FLUSHER, 1) < 0) refused.push("PR_SET_IO_FLUSHER");
  if (!writeText("/proc/self/oom_score_adj", String(OOM_SCORE_ADJ))) refused.push("oom_score_adj");
  const ownNamespace = leaveMountNamespace();
  if (!ownNamespace) refused.push("a mount namespace of its own");
  return { refused, ownNamespace };
}

function leaveMountNamespace(): boolean {
  // In a chroot that is no mount, MS_SLAVE is refused, and the way back would lead out of the chroot.
  // Where `/` is private (no systemd), a namespace would never hear of the host's unmounts and keep
  // its disks busy.
  if (!isRootPropagated()) return false;
  const before = open("/proc/self/ns/mnt", O.RDONLY | O.CLOEXEC);
  if (before < 0) return false;
  const left = unshare(CLONE.NEWNS) === 0;
  // A slave hears of the host's unmounts (a private one would keep its disks busy) and tells nothing.
  const isSlave = left && mount("none", "/", "", MS.REC | MS.SLAVE) === 0;
  if (left && !isSlave) setns(before, CLONE.NEWNS);
  close(before);
  return isSlave;
}

/**
 * Field 5 is the mount point, as seen from our root; field 7 and those up to a lone "-" tell how
 * mounts propagate. Source: proc_pid_mountinfo(5).
 */
function isRootPropagated(): boolean {
  const text = readText("/proc/self/mountinfo") ?? "";
  const mounts = text.split("\n").map((line) => line.split(" "));
  const root = mounts.findLast((fields) => fields[4] === "/");
  return root !== undefined && /^(shared|master):/.test(root[6] ?? "");
}
