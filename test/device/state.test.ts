// The state machine: every edge there is, and that there are no others.

import { expect, test } from "bun:test";

import { type DeviceEvent, type DeviceState, next, TRANSITIONS } from "../../src/device/state.ts";

const states = Object.keys(TRANSITIONS) as DeviceState[];
const events = [...new Set(states.flatMap((state) => Object.keys(TRANSITIONS[state])))];

test("every edge leads to a state there is, every missing edge is refused", () => {
  for (const state of states) {
    const edges: Readonly<Record<string, string>> = TRANSITIONS[state];
    for (const event of events as DeviceEvent[]) {
      const to = edges[event];
      if (to === undefined) expect(() => next(state, event)).toThrow(`${state} cannot be ${event}`);
      else expect(states).toContain(next(state, event));
    }
  }
});

const walk = (from: DeviceState, ...path: DeviceEvent[]) => path.reduce(next, from);

test("adding and recovering walk the same path", () => {
  expect(walk("new", "added", "primed", "started")).toBe("live");
  expect(walk("new", "adopted", "recover", "primed", "started")).toBe("live");
  expect(
    walk("live", "orphaned", "recover", "primed", "started", "stop", "stopped", "deleted"),
  ).toBe("gone");
});
