// What every command that talks to the driver needs, opened in one place.

import { resolve } from "../builtin.ts";
import type { Control } from "../control/control.ts";
import { raiseFileLimit } from "../device/file-limit.ts";
import { Store } from "../device/store.ts";
import { timeoutOf } from "./args.ts";

/** Values of `commonArgs`. */
export interface CommonValues {
  readonly timeout: string;
  readonly "run-dir": string;
  readonly liburing?: string | undefined;
}

/** What those values say. */
export interface Common {
  readonly store: Store;
  readonly timeoutMs: number;
  /** As given: a path, or "" for the built-in library. */
  readonly liburing: string;
}

export interface Session extends Common, Disposable {
  readonly control: Control;
}

/** As `resolve` has it, which is loaded only for a path that is not so already. */
const absolute = (path: string) =>
  /^(\/(?!\.{1,2}(\/|$))[^/]+)+$/.test(path) ? path : resolve(path);

/** Opens nothing. Throws UsageError where --timeout makes no sense. */
export function commonOf(args: CommonValues): Common {
  const timeoutMs = timeoutOf(args);
  const given = args.liburing ?? process.env["UBLK_BUN_LIBURING"] ?? "";
  const liburing = given === "" ? "" : absolute(given);
  return { store: new Store(absolute(args["run-dir"])), timeoutMs, liburing };
}

/**
 * Opens the driver. Throws with exit 4 where there is none, 1 without the right to use it. `library`: the
 * liburing of a device, for where nobody has said another.
 */
export async function openSession(args: CommonValues, library = ""): Promise<Session> {
  const common = commonOf(args);
  raiseFileLimit();
  // Loaded only now: a recovery opens its session when the disk is served again.
  const { liburingPath, loadLiburing } = await import("../ffi/liburing.ts");
  const { Control: Driver } = await import("../control/control.ts");
  const liburing = loadLiburing(liburingPath(common.liburing || library || undefined));
  const control = await Driver.open({ liburing, timeoutMs: common.timeoutMs });
  return { ...common, control, [Symbol.dispose]: () => control[Symbol.dispose]() };
}
