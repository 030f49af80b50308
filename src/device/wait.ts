// Waiting for a device to get into a state. The kernel tells nobody about that: it is asked, ever less
// often, and at once when somebody has done something to a device.

import { watch } from "../builtin.ts";
import type { DevInfo } from "../control/commands/dev-info.ts";
import type { Control } from "../control/control.ts";
import { EXIT, UblkError } from "../errors.ts";
import { within } from "./deadline.ts";
import { findDevice } from "./find-device.ts";
import { serverPid } from "./inspect.ts";
import { peek } from "./processes.ts";
import type { Store } from "./store.ts";

/** As people write them, with what must hold of the device. */
const REACHED = {
  // A dead server's device is LIVE a moment longer.
  live: (info) => info?.state === "LIVE" && serverPid(info) > 0,
  quiesced: (info) => info?.state === "QUIESCED",
  dead: (info) => info?.state === "DEAD",
  fail_io: (info) => info?.state === "FAIL_IO",
  gone: (info) => info === undefined,
} as const satisfies Readonly<Record<string, (info: DevInfo | undefined) => boolean>>;

export type WaitState = keyof typeof REACHED;
export const WAIT_STATES = Object.keys(REACHED) as WaitState[];

const LOOK_MS_MIN = 2;
const LOOK_MS_MAX = 100;

export interface WaitOptions {
  readonly control: Control;
  readonly store: Store;
  readonly timeoutMs: number;
}

/** Throws with exit 3 when the device is not there, with 124 at the deadline naming its state. */
export async function waitForState(
  id: number,
  state: WaitState,
  { control, store, timeoutMs }: WaitOptions,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let changed = Promise.withResolvers<void>();
  const watcher = peek(() => watch(store.dir, () => changed.resolve()));
  try {
    for (let lookMs = LOOK_MS_MIN; ; lookMs = Math.min(2 * lookMs, LOOK_MS_MAX)) {
      changed = Promise.withResolvers<void>();
      const info = await findDevice(control, id);
      if (REACHED[state](info)) return;
      if (info === undefined) {
        throw new UblkError(`There is no device ${id}`, {
          exitCode: EXIT.noDevice,
          hint: "see: ublk-bun list",
        });
      }
      const leftMs = deadline - performance.now();
      if (leftMs <= 0) throw lateError(info, state, timeoutMs);
      await within(Math.min(lookMs, leftMs), changed.promise);
    }
  } finally {
    watcher?.close();
  }
}

function lateError(info: DevInfo, state: WaitState, timeoutMs: number): UblkError {
  const server = info.state === "LIVE" && serverPid(info) < 0 ? ", its server dead" : "";
  return new UblkError(
    `Device ${info.id} is ${info.state}${server}, and not ${state}, after ${timeoutMs / 1000} s`,
    { exitCode: EXIT.timedOut },
  );
}
