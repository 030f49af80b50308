// quiesce: the server of a live disk lets go without a crash; the kernel holds the I/O for `recover`.
//
// With UBLK_F_BATCH_IO, QUIESCE_DEV of Linux 7.3 fails the I/O that it should hold. So the server of such
// a disk is asked to let go by itself: what it has begun it ends, what it has kept the kernel does again
// (reissue) or fails (queue).

import type { DevInfo } from "../control/commands/dev-info.ts";
import { getDevInfo, quiesceDev } from "../control/commands/index.ts";
import type { Control } from "../control/control.ts";
import { EXIT, KernelError, UblkError } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";
import { UBLK_F } from "../ffi/ublk.ts";
import { inFlight } from "./disk.ts";
import { describeCharHolders } from "./holders.ts";
import { assertOurs } from "./identity.ts";
import { serverPid } from "./inspect.ts";
import { isBatch } from "./modes.ts";
import { recoveryOf } from "./recovery.ts";
import { type AskOptions, askToDrain } from "./remote.ts";
import { markResting, unmarkResting } from "./resting.ts";
import { isDaemon } from "./self.ts";
import type { DeviceRecord, Store } from "./store.ts";

/** How long the kernel may wait for I/O to end before the tags are looked at again. */
const ROUND_MS = 100;
const LOOK_MS = 5;
/** QUIESCE_DEV ends at the deadline it is given; what comes later is stuck. */
const GRACE_MS = 5000;

export interface QuiesceOptions {
  readonly control: Control;
  readonly store: Store;
  readonly timeoutMs: number;
  /** Also where requests may fail meanwhile. */
  readonly allowErrors: boolean;
}

/** Returns false when no server was there already. Throws with exit 124 when the server does not go. */
export async function quiesceDevice(id: number, options: QuiesceOptions): Promise<boolean> {
  const { control, store, timeoutMs } = options;
  store.prepare();
  using lock = store.lock(id, "quiesce");
  void lock;
  const { info, record } = await checkedDevice(id, options);
  // Before the server can end: nobody shall take that for a crash.
  markResting(store, record);
  if (isQuiesced(info)) return false;
  const pid = serverPid(info);
  const deadline = performance.now() + timeoutMs;
  const letsGo = isBatch(info.flags);
  const orUnmark = async (step: Promise<void>) => {
    try {
      await step;
    } catch (error) {
      unmarkResting(store, id);
      throw error;
    }
  };
  const patience = { store, timeoutMs, drainTimeoutMs: timeoutMs };
  if (letsGo) await orUnmark(letGo(id, patience));
  // A tag that was busy is armed again by its commit, and only the next QUIESCE_DEV takes it back.
  for (;;) {
    const leftMs = deadline - performance.now();
    if (!letsGo) await orUnmark(holdNew(control, id, Math.min(ROUND_MS, Math.max(1, leftMs))));
    const now = await control.run(getDevInfo, id, undefined);
    if (isQuiesced(now) && !isDaemon(pid)) {
      store.events.add("quiesced", { id, target: record.target, pid });
      return true;
    }
    if (now.state === "DEAD") throw new UblkError(`Device ${id} was stopped meanwhile`);
    if (performance.now() > deadline) throw lateError(id, pid, timeoutMs);
    await Bun.sleep(LOOK_MS);
  }
}

const isQuiesced = ({ state }: DevInfo) => state === "QUIESCED" || state === "FAIL_IO";

/** Everything that can be refused before I/O is held: there is no way back but `recover`. */
async function checkedDevice(
  id: number,
  { control, store, allowErrors }: QuiesceOptions,
): Promise<{ readonly info: DevInfo; readonly record: DeviceRecord }> {
  const info = await control.run(getDevInfo, id, undefined);
  control.assertHas(quiesceDev);
  const record = store.load(id);
  assertOurs(record, info, "nothing was changed");
  if (!(info.flags & UBLK_F.USER_RECOVERY)) {
    throw new UblkError(`Device ${id} was added without recovery: its disk would be gone`, {
      exitCode: EXIT.notRecoverable,
      hint: `nothing was changed; to remove it: ublk-bun del ${id}`,
    });
  }
  if (info.state === "DEAD") {
    throw new UblkError(`Device ${id} is DEAD: it was stopped, its disk is gone`, {
      exitCode: EXIT.notRecoverable,
      hint: `delete it: ublk-bun del ${id}`,
    });
  }
  if (isBatch(info.flags) && recoveryOf(info.flags) === "queue" && !allowErrors) {
    throw new UblkError(`Device ${id} has --batch and --recovery=queue: requests would fail`, {
      exitCode: EXIT.notSupported,
      hint:
        "nothing was changed; use --allow-errors if that is acceptable; " +
        "with --recovery=reissue nothing fails",
    });
  }
  return { info, record };
}

async function letGo(id: number, options: AskOptions): Promise<void> {
  using drained = await askToDrain(id, options);
  await drained.letGo();
}

/**
 * QUIESCE_DEV: the kernel holds new I/O from now on, and takes idle tags back. That some I/O is still under
 * way is no error here.
 */
export async function holdNew(control: Control, id: number, roundMs = ROUND_MS): Promise<void> {
  const timeoutMs = Math.ceil(roundMs);
  try {
    await control.run(quiesceDev, id, { timeoutMs }, { timeoutMs: timeoutMs + GRACE_MS });
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== ERRNO.EBUSY) throw error;
  }
}

/** New I/O is held, and what has begun does not end. */
export function lateError(id: number, pid: number, timeoutMs: number): KernelError {
  const count = inFlight(id);
  const holders = describeCharHolders(id);
  const requests = `${count} request${count === 1 ? "" : "s"} in flight`;
  const who = holders === "" ? "" : `, its server is ${holders}`;
  return new KernelError(
    `Device ${id} is not quiesced within ${timeoutMs / 1000} s: ${requests}${who}`,
    ERRNO.ETIMEDOUT,
    {
      exitCode: EXIT.timedOut,
      hint:
        `new I/O is held from now on; go on with quiesce again, ` +
        `or with: kill -9 ${pid}; ublk-bun recover ${id}`,
    },
  );
}
