// How a server dies here, and how it is brought back.

import { dlopen } from "bun:ffi";

import { type DeviceReport, program, runOk, type TestDevice } from "../program.ts";
import type { DiskNode } from "./watch.ts";

const SIGNALS = { SIGKILL: 9, SIGSEGV: 11, SIGABRT: 6 } as const;

/** A signal to the process, or to one queue's thread alone. */
export interface Death {
  readonly signal: keyof typeof SIGNALS;
  readonly target: "process" | "thread";
}

export const DEATHS: readonly Death[] = [
  { signal: "SIGKILL", target: "process" },
  { signal: "SIGSEGV", target: "process" },
  { signal: "SIGABRT", target: "process" },
  { signal: "SIGKILL", target: "thread" },
  { signal: "SIGSEGV", target: "thread" },
];

const { symbols: C } = dlopen("libc.so.6", {
  tgkill: { args: ["i32", "i32", "i32"], returns: "i32" },
});

/** Kills the server that `report` names; `random` chooses the queue. */
function kill(report: DeviceReport, death: Death, random: () => number): void {
  const { serverPid, queues } = report;
  const { threadId } = queues[Math.floor(random() * queues.length)]!;
  if (serverPid === null || threadId === null) throw new Error("nobody serves the disk");
  const thread = death.target === "thread" ? threadId : serverPid;
  const result = C.tgkill(serverPid, thread, SIGNALS[death.signal]);
  if (result !== 0) throw new Error(`tgkill(${serverPid}, ${thread}) failed`);
}

export interface Round {
  readonly device: TestDevice;
  readonly death: Death;
  readonly node: DiskNode;
  readonly random: () => number;
  /** Who recovers, where it is not the program under test. */
  readonly by?: string;
  /** Waits for the moment. */
  readonly moment: () => Promise<void>;
}

/** One death and one recovery; how long `recover` took, in ms. */
export async function dieAndRecover(round: Round): Promise<number> {
  const { device, death, node, random, moment, by = program } = round;
  const before = await device.report();
  await moment();
  kill(before, death, random);
  const began = performance.now();
  node.assertSame();
  const after = JSON.parse(await runOk(by, "recover", String(device.id), "--json")) as DeviceReport;
  node.assertSame();
  const milliseconds = performance.now() - began;
  if (after.serverPid === before.serverPid || after.restarts !== (before.restarts ?? 0) + 1) {
    throw new Error(`not recovered: ${JSON.stringify(after)}`);
  }
  return milliseconds;
}
