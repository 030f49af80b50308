// Words for failed control commands: which command, which device, why as far as known, what to do.

import { EXIT, type ExitCode, KernelError } from "../errors.ts";
import { ERRNO, errnoName } from "../ffi/errno.ts";
import type { Cause, Command } from "./command.ts";

/** What an errno means for any command that does not say otherwise. */
const GENERAL: Readonly<Record<string, Cause>> = {
  EPERM: { why: "only root (CAP_SYS_ADMIN) may do this", hint: "run it as root" },
  EACCES: { why: "no permission on the device", hint: "run it as root" },
  ENODEV: { why: "there is no such device", hint: "see: ublk-bun list" },
  EBUSY: { why: "the device is busy" },
  EINTR: { why: "it was interrupted" },
  ENOMEM: { why: "the kernel is out of memory" },
};

const GENERAL_EXIT: Readonly<Record<string, ExitCode>> = {
  ENODEV: EXIT.noDevice,
  EOPNOTSUPP: EXIT.notSupported,
  EBUSY: EXIT.busy,
};

type AnyCommand = Pick<Command<never, unknown>, "name" | "causes" | "since">;

const what = (command: AnyCommand, deviceId: number) =>
  deviceId === 0xffffffff ? command.name : `${command.name} of device ${deviceId}`;

/** The error of a command that the kernel answered with `errno`. */
export function commandError(command: AnyCommand, deviceId: number, errno: number): KernelError {
  const name = errnoName(errno);
  if (name === "EOPNOTSUPP") return tooOldError(command);
  const cause = command.causes?.[name] ?? GENERAL[name];
  const why = cause ? `: ${cause.why}` : "";
  return new KernelError(`${what(command, deviceId)} failed: ${name}${why}`, errno, {
    exitCode: cause?.exitCode ?? GENERAL_EXIT[name] ?? EXIT.failed,
    ...(cause?.hint === undefined ? {} : { hint: cause.hint }),
  });
}

/** The error of a command that this kernel does not have. */
export function tooOldError(command: AnyCommand): KernelError {
  const since = command.since ? ` (it came with Linux ${command.since})` : "";
  return new KernelError(`This kernel does not have ${command.name}${since}`, ERRNO.EOPNOTSUPP, {
    exitCode: EXIT.notSupported,
    hint: "see: ublk-bun features",
  });
}

/** The error of a command that did not end in time. */
export function timeoutError(
  command: AnyCommand,
  deviceId: number,
  timeoutMs: number,
): KernelError {
  const cause = command.causes?.["ETIMEDOUT"];
  const why = cause ? `: ${cause.why}` : "";
  return new KernelError(
    `${what(command, deviceId)} did not end within ${timeoutMs / 1000} s${why}`,
    ERRNO.ETIMEDOUT,
    {
      exitCode: EXIT.timedOut,
      hint: cause?.hint ?? "see the kernel's log: dmesg; a longer deadline: --timeout SECONDS",
    },
  );
}
