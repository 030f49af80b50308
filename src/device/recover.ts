// recover from the launcher's side. The new server is started at once, and does all the rest: looks at record
// and device, refuses or takes over. Whatever is loaded or looked at here before that, the disk waits for.

import type { Control } from "../control/control.ts";
import { readText } from "../ffi/small-files.ts";
import { isFilePath } from "../script/file-path.ts";
import type { Spec } from "../target.ts";
import { raiseFileLimit } from "./file-limit.ts";
import { Interrupt } from "./interrupt.ts";
import { type RecoverJob, type RecoverWish, threadsOf } from "./job.ts";
import { launch, type Launched } from "./launch.ts";
import { peek } from "./processes.ts";
import { parseRecord } from "./record-text.ts";
import type { DeviceRecord, Store } from "./store.ts";
import { isListenedTo } from "./unix-socket.ts";

export interface RecoverOptions {
  /** For a disk that has a server, and for what follows when the disk is live. */
  readonly openControl: () => Promise<Control>;
  readonly store: Store;
  readonly timeoutMs: number;
  readonly liburing: string;
  readonly foreground: boolean;
  /** With another target: also another tool's disk, or over files that another device uses. */
  readonly force: boolean;
  /** Goes before what the target's spec says, for this server alone: for targets that fail on purpose. */
  readonly once: Spec;
  readonly wish: RecoverWish;
}

const silent = () => {};

/** Serves a device again whose server is gone; returns when its disk can be read. */
export async function recoverDevice(id: number, options: RecoverOptions): Promise<Launched> {
  const { store, timeoutMs, liburing, force, once, wish } = options;
  const what = { runDir: store.dir, timeoutMs, liburing, id, force, once, wish } as const;
  const job = { verb: "recover", role: "recover", ...what } as const;
  const record = await lookedAt(job, options);
  const glance = record ?? glanceAt(id, store);
  const isKept = glance !== undefined && wish.retarget === undefined;
  const threadsAhead = (isKept ? peek(() => threadsOf(glance)) : undefined) ?? 0;
  const env = await envFor(wish.retarget ?? glance);
  raiseFileLimit();
  return await launch({
    ...options,
    job: { ...job, launcherPid: process.pid, threadsAhead, ...(record && { record }) },
    lock: undefined,
    interrupt: new Interrupt(),
    env,
  });
}

/**
 * The device is looked at here where that is no loss: no new server is started for a disk that has one, and
 * changed code is loaded here rather than in a server's main thread. Then it is the record with that code.
 */
async function lookedAt(
  job: Pick<RecoverJob, "id" | "force" | "wish">,
  { store, openControl, wish }: RecoverOptions,
): Promise<DeviceRecord | undefined> {
  if (!wish.acceptChanges && !isListenedTo(store.socketPath(job.id))) return undefined;
  const { recoverable } = await import("./recoverable.ts");
  const found = await recoverable(job, { control: await openControl(), store, note: silent });
  if (!wish.acceptChanges) return undefined;
  const { withCodeOfNow } = await import("./code.ts");
  const record = await withCodeOfNow(found);
  return record === found ? undefined : record;
}

/** What the record says, whoever wrote it: the server reads it again, and looks at that as well. */
function glanceAt(id: number, store: Store): DeviceRecord | undefined {
  const record = peek(() => parseRecord(readText(store.recordPath(id)) ?? "", id));
  // It may ask for variables of this environment, so it must be one of our own.
  return record && isFilePath(record.target) ? store.loadIfUsable(id) : record;
}

/** Only files of one's own have variables. What is not set, the server will name. */
async function envFor(made: Pick<DeviceRecord, "target" | "spec"> | undefined) {
  if (made === undefined || !isFilePath(made.target)) return {};
  const { setEnv } = await import("./code.ts");
  return peek(() => setEnv(made)) ?? {};
}
