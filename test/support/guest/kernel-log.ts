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

/** The lines of `log` that report a bug, a warning, a stuck task or a panic, in order. */
export function kernelProblems(log: string): string[] {
  return log.split(/\r?\n/).filter((line) => PROBLEM.test(line));
}
