// A device with all that is known of it, as text.

import type { DeviceDetails, RecordedDetails } from "../device/details.ts";
import { formatDevice } from "./output.ts";

/** The lines of `list`, and below them the rest, a topic a line. */
export function formatDetails(device: DeviceDetails): string {
  const { charNumber, diskNumber, ownerUid, ownerGid, record } = device;
  const threads = device.queues.map(({ threadId }, i) => `${i} ${threadId ?? "none"}`);
  const topics: readonly (readonly [string, string])[] = [
    ["numbers", `ublkc ${charNumber ?? "none"}, ublkb ${diskNumber ?? "none"}`],
    ["owner", `${ownerUid}:${ownerGid}`],
    ["partitions", words(device.partitions)],
    ["flags", `${words(device.flags)} (${device.flagsHex})`],
    ["identity", device.identity],
    ["io descriptors", `${device.ioDescBytes} bytes each`],
    ["in flight", `${device.inFlight} requests`],
    ["queue threads", threads.join(", ")],
    ...paramTopics(device),
    ["disk used by", words(device.diskHolders)],
    ["char device used by", words(device.charHolders)],
    ["standby", device.standbyPid === null ? "none" : `pid ${device.standbyPid}`],
    ["record", `${record.path} (${record.state})`],
    ...(device.recorded ? recordTopics(device, device.recorded) : []),
  ];
  return [formatDevice(device), ...topics.map(([topic, text]) => `\t${topic}: ${text}`)].join("\n");
}

const words = (list: readonly string[]) => (list.length === 0 ? "none" : list.join(", "));

function paramTopics({ params }: DeviceDetails): (readonly [string, string])[] {
  if (params === null) return [["params", "unknown: somebody is changing the device"]];
  return Object.entries(params).map(([block, values]) => [`params ${block}`, fields(values)]);
}

/** "logicalBlockBytes 512, …": names carry their units. */
function fields(values: object | number | null): string {
  if (values === null) return "not set";
  if (typeof values === "number") return String(values);
  return Object.entries(values)
    .map(([name, value]) => `${name} ${Array.isArray(value) ? list(value) : value}`)
    .join(", ");
}

const list = (names: readonly string[]) => (names.length === 0 ? "none" : names.join("|"));

function recordTopics(
  { log }: DeviceDetails,
  recorded: RecordedDetails,
): (readonly [string, string])[] {
  return [
    ["log", log ?? "none"],
    ["program", recorded.program],
    ["liburing", recorded.liburing || "built in"],
    ["boot", recorded.bootId],
    ["stall timeout", `${recorded.stallTimeoutMs} ms`],
    ["target's files", words(recorded.files)],
    ["target's facts", JSON.stringify(recorded.facts)],
  ];
}
