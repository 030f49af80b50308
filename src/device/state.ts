// The life of a device, as a table: which event leads from which state to which.

import { assert } from "../errors.ts";

/**
 * `orphaned`: its server is gone and the kernel keeps the disk (QUIESCED or FAIL_IO).
 * `lost`: its server is gone and the kernel dropped the disk (DEAD).
 */
export const TRANSITIONS = {
  new: { added: "added", adopted: "quiesced" },
  added: {
    primed: "primed",
    stop: "stopping",
    deleted: "gone",
    lost: "stopped",
    orphaned: "quiesced",
  },
  primed: {
    started: "live",
    stop: "stopping",
    deleted: "gone",
    lost: "stopped",
    orphaned: "quiesced",
  },
  live: { stop: "stopping", quiesce: "quiescing", lost: "stopped", orphaned: "quiesced" },
  quiescing: { orphaned: "quiesced", stop: "stopping" },
  stopping: { stopped: "stopped", lost: "stopped", refused: "live" },
  quiesced: { recover: "added", stop: "stopping" },
  stopped: { deleted: "gone", restart: "added" },
  gone: {},
} as const satisfies Readonly<Record<string, Readonly<Record<string, string>>>>;

export type DeviceState = keyof typeof TRANSITIONS;

type EventsOf<S extends DeviceState> = keyof (typeof TRANSITIONS)[S];
export type DeviceEvent = { [S in DeviceState]: EventsOf<S> }[DeviceState];

/** The state that `event` leads to. A missing edge is a broken invariant. */
export function next(state: DeviceState, event: DeviceEvent): DeviceState {
  const edges: Readonly<Record<string, DeviceState>> = TRANSITIONS[state];
  const to = edges[event];
  assert(to !== undefined, `a device that is ${state} cannot be ${event}`);
  return to;
}
