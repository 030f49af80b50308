// Everything that goes to stdout: tables for people and scripts, JSON for programs.

import type { DeviceReport } from "../device/inspect.ts";
import { messageOf, UblkError } from "../errors.ts";
import { formatBytes } from "../units.ts";
import { output, writeAll } from "../write.ts";

export function print(text: string): void {
  printWhileRead(text);
}

/** As `print`; false: nobody reads it any more. */
export function printWhileRead(text: string): boolean {
  try {
    return writeAll(output.fd, `${text}\n`);
  } catch (cause) {
    throw new UblkError(`Cannot write the output: ${messageOf(cause)}`, { cause });
  }
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, undefined, 2));
}

/**
 * A device as text. The first lines, down to the queues, are the kernel test server's to the letter:
 * scripts read them by column. What follows is ours.
 */
export function formatDevice(device: DeviceReport): string {
  const pid = device.serverPid ?? -1;
  return [
    `dev id ${device.id}: nr_hw_queues ${device.queues.length} queue_depth ${device.depth} ` +
      `block size ${device.logicalBlockBytes} dev_capacity ${device.sizeBytes / 512}`,
    `\tmax rq size ${device.ioBufBytes} daemon pid ${pid} flags ${device.flagsHex} ` +
      `state ${device.state}`,
    ...device.queues.map(
      ({ cpus }, queue) => `\tqueue ${queue}: affinity(${cpus.map((cpu) => `${cpu} `).join("")})`,
    ),
    `\tpath ${device.path} size ${formatBytes(device.sizeBytes)}`,
    device.ours
      ? `\ttarget ${device.target} ${JSON.stringify(device.spec)}`
      : "\ttarget unknown: not made by ublk-bun, or its record is lost",
    ...device.filters.map(({ name, spec }) => `\tfilter ${name} ${JSON.stringify(spec)}`),
    `\tmode ${device.mode ?? "unknown"}${device.batch ? " batch" : ""} ` +
      `recovery ${device.recovery} restarts ${device.restarts ?? "unknown"}`,
  ].join("\n");
}
