// recover --all: every device of ours without a server, some at a time; one that cannot be recovered
// does not keep the others.

import type { Control } from "../control/control.ts";
import { EXIT, type ExitCode } from "../errors.ts";
import { deviceIds } from "./disk.ts";
import { findDevice } from "./find-device.ts";
import { isMadeByUs } from "./identity.ts";
import { serverPid } from "./inspect.ts";
import { standingOf } from "./orphans.ts";
import { recoverByChild } from "./recover-child.ts";
import type { Store } from "./store.ts";

/** Each costs two processes while it lasts. */
const AT_ONCE = 4;

/** What became of one device, as `recover --all --json` prints it. */
export interface Recovery {
  readonly id: number;
  readonly recovered: boolean;
  readonly serverPid: number | null;
  /** Why not; null when it is recovered. */
  readonly error: string | null;
}

export interface RecoverAllOptions {
  readonly control: Control;
  readonly store: Store;
  readonly timeoutMs: number;
  readonly liburing: string;
}

/** Recovers them all; `onOutcome` hears of each. Returns the exit code of the first that failed. */
export async function recoverAll(
  options: RecoverAllOptions,
  onOutcome: (recovery: Recovery) => void,
): Promise<ExitCode> {
  const waiting = await idsToRecover(options);
  const failures = new Map<number, ExitCode>();
  const work = async () => {
    for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
      const {
        exitCode,
        serverPid: pid,
        message,
      } = await recoverByChild(id, {
        ...options,
        runDir: options.store.dir,
      });
      if (exitCode === EXIT.ok) {
        onOutcome({ id, recovered: true, serverPid: pid, error: null });
      } else if (await needsServer(id, options)) {
        failures.set(id, exitCode);
        onOutcome({ id, recovered: false, serverPid: null, error: message });
      } // Else somebody else was quicker, or it is gone.
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  const [first] = [...failures.keys()].toSorted((a, b) => a - b);
  return first === undefined ? EXIT.ok : failures.get(first)!;
}

async function idsToRecover(options: RecoverAllOptions): Promise<number[]> {
  const ids: number[] = [];
  for (const id of deviceIds()) if (await needsServer(id, options)) ids.push(id);
  return ids;
}

/** A device of ours that could be served and is not; also one whose record cannot be read. */
async function needsServer(id: number, { control, store }: RecoverAllOptions): Promise<boolean> {
  const standing = await standingOf(control, store, id);
  if (standing.kind === "gone") {
    const isDamaged = store.has(id) && store.loadIfUsable(id) === undefined;
    const info = isDamaged ? await findDevice(control, id) : undefined;
    return info !== undefined && isMadeByUs(info) && info.state !== "DEAD" && serverPid(info) < 0;
  }
  if (standing.kind === "served" || standing.state === "DEAD") return false;
  return standing.record.recovery !== "none";
}
