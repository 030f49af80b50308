// What every command that talks to the driver needs, opened in one place.

import { resolve } from "node:path";

import { Control } from "../control/control.ts";
import { raiseFileLimit } from "../device/file-limit.ts";
import { Store } from "../device/store.ts";
import { liburingPath, loadLiburing } from "../ffi/liburing.ts";
import { timeoutOf } from "./args.ts";

/** Values of `commonArgs`. */
export interface CommonValues {
  readonly timeout: string;
  readonly "run-dir": string;
  readonly liburing?: string | undefined;
}

export interface Session extends Disposable {
  readonly control: Control;
  readonly store: Store;
  readonly timeoutMs: number;
  /** As given: a path, or "" for the built-in library. */
  readonly liburing: string;
}

/** Opens the driver. Throws with exit 4 where there is none, 1 without the right to use it. */
export async function openSession(args: CommonValues): Promise<Session> {
  const timeoutMs = timeoutOf(args);
  const given = args.liburing ?? process.env["UBLK_BUN_LIBURING"] ?? "";
  const liburing = given === "" ? "" : resolve(given);
  raiseFileLimit();
  const library = loadLiburing(liburingPath(liburing || undefined));
  const control = await Control.open({ liburing: library, timeoutMs });
  const store = new Store(resolve(args["run-dir"]));
  return { control, store, timeoutMs, liburing, [Symbol.dispose]: () => control[Symbol.dispose]() };
}
