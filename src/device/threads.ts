// The threads that serve a device's queues, found by the names that they give themselves.

import { readdirSync, readFileSync } from "../builtin.ts";
import { peek } from "./processes.ts";

/** Queue number -> thread id, in process `pid`. */
export function queueThreads(pid: number, deviceId: number): Map<number, number> {
  const folder = `/proc/${pid}/task`;
  const threads = new Map<number, number>();
  if (pid <= 0) return threads;
  for (const tid of peek(() => readdirSync(folder)) ?? []) {
    const name = peek(() => readFileSync(`${folder}/${tid}/comm`, "utf8").trim()) ?? "";
    const match = /^ublk(\d+)q(\d+)$/.exec(name);
    if (match && Number(match[1]) === deviceId) threads.set(Number(match[2]), Number(tid));
  }
  return threads;
}
