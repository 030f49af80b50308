// What in a kernel log means that the kernel itself found something wrong.

const PROBLEM = new RegExp(
  [
    /\bBUG:/,
    /\bWARNING:/,
    /\bOops\b/,
    /hung task/,
    /blocked for more than/,
    /general protection/,
    /refcount_t/,
    /Kernel panic/,
    /rcu.*detected stall/,
  ]
    .map((pattern) => pattern.source)
    .join("|"),
);

/**
 * What Linux 6.12's driver complains of, at most once a boot, where a server is killed after it has fetched
 * and before END_USER_RECOVERY or START_DEV: the steps of the torture do just that.
 */
const KNOWN_IN_6_12 = /\bWARNING: .* at drivers\/block\/ublk_drv\.c:\d+ ublk_ch_uring_cmd\+/;

/** The lines of `log` that report a bug, a warning, a stuck task or a panic, in order. */
export function kernelProblems(log: string): string[] {
  const isOld = /Linux version 6\.12\./.test(log);
  return log
    .split(/\r?\n/)
    .filter((line) => PROBLEM.test(line) && !(isOld && KNOWN_IN_6_12.test(line)));
}
