// What goes wrong on the control path, as errors that say what failed, why, and what to do.

/** Exit codes of the command line; documented in README.md and stable. */
export const EXIT = {
  ok: 0,
  failed: 1,
  usage: 2,
  noDevice: 3,
  notSupported: 4,
  busy: 5,
  notRecoverable: 6,
  timedOut: 124,
  /** Ctrl-C and SIGTERM, as a shell would say it. */
  interrupted: 130,
  /** Somebody killed the server (kill -9) that was in the foreground. */
  killed: 137,
  terminated: 143,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** An error a person can act on: one sentence, a hint, and the exit code it ends the command with. */
export class UblkError extends Error {
  readonly exitCode: ExitCode;
  readonly hint: string | undefined;

  constructor(
    message: string,
    options: { exitCode?: ExitCode; hint?: string; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = "UblkError";
    this.exitCode = options.exitCode ?? EXIT.failed;
    this.hint = options.hint;
  }
}

/** Words on the command line that make no sense: exit 2, nothing was done. */
export class UsageError extends UblkError {
  constructor(message: string, hint?: string) {
    super(message, { exitCode: EXIT.usage, ...(hint === undefined ? {} : { hint }) });
    this.name = "UsageError";
  }
}

/** A system call, liburing call or ublk command that failed; `errno` is positive (EBUSY is 16). */
export class KernelError extends UblkError {
  readonly errno: number;

  constructor(
    message: string,
    errno: number,
    options: { exitCode?: ExitCode; hint?: string; cause?: unknown } = {},
  ) {
    super(message, options);
    this.name = "KernelError";
    this.errno = errno;
  }
}

/** A broken invariant. Nothing may catch it: the process must die and the device wait for `recover`. */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Throws AssertionError unless `condition` holds. Not for bad input: for what cannot happen. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** What was thrown, in words: anything can be. Of an object its keys alone, for a value may be a secret. */
export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message || error.name;
  if (typeof error !== "object" || error === null) return String(error);
  try {
    const { message } = error as { readonly message?: unknown };
    if (typeof message === "string") return message;
    const keys = Object.keys(error).slice(0, KEYS_SHOWN).join(", ");
    return `${error.constructor?.name ?? "Object"} { ${keys} }`;
  } catch {
    // A getter or a proxy.
    return "an object";
  }
}

const KEYS_SHOWN = 8;

/** The same with the stack, for logs: what was not foreseen must be found again. */
export function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
}

/** Our own code, compiled or not: its frames say nothing to whoever wrote a target. */
const OWN_FOLDER = `${import.meta.dir}/`;

/** Where somebody else's code threw this, as "/path/file.ts:12:34"; undefined where it cannot be told. */
export function placeOf(error: unknown): string | undefined {
  const stack = error instanceof Error ? (error.stack ?? "") : "";
  for (const line of stack.split("\n")) {
    // Not of a module of the runtime, such as node:fs/promises:179:56.
    const place = /(?:^|[\s(])(\/[^()]*:\d+:\d+)\)?$/.exec(line)?.[1];
    if (place !== undefined && !place.startsWith(OWN_FOLDER)) return place;
  }
  return undefined;
}
