// A device's record as text: JSON that people can read, with a checksum over what it says, so that a
// damaged one is noticed before anything is served by it.

import type { DeviceRecord } from "./store.ts";

/** Every field but for `version` and `id`, which are looked at first. */
const FIELDS: Readonly<Record<string, string>> = {
  identity: "string",
  bootId: "string",
  target: "string",
  spec: "object",
  filters: "object",
  facts: "object",
  queues: "number",
  depth: "number",
  ioBufBytes: "number",
  ioDescBytes: "number",
  mode: "string",
  flags: "string",
  recovery: "string",
  restarts: "number",
  stallTimeoutMs: "number",
  liburing: "string",
  log: "string",
  program: "string",
};

/** What a record may lack. */
const OPTIONAL = ["filters", "facts"];

/** The record's file content. */
export function recordText(record: DeviceRecord): string {
  return `${JSON.stringify({ ...record, checksum: checksum(record) }, undefined, 2)}\n`;
}

/** Back from `recordText`; throws an Error that says what is wrong with it. */
export function parseRecord(text: string, id: number): DeviceRecord {
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null) throw new Error("it is not an object");
  const { checksum: kept, ...record } = value as Record<string, unknown>;
  // First of all: another version may have another checksum.
  if (record["version"] !== 1 && record["version"] !== 2) {
    throw new Error(
      `it is of version ${String(record["version"])}, this program reads versions 1 and 2`,
    );
  }
  // The first builds wrote none. A field that they did not know may be what is left of one.
  const strange = Object.keys(record).find((field) => !KNOWN.has(field));
  if (kept === undefined ? strange !== undefined : kept !== checksum(record)) {
    throw new Error("it is damaged, its checksum does not fit");
  }
  if (record["id"] !== id) throw new Error(`it says it is of device ${String(record["id"])}`);
  for (const [field, type] of Object.entries(FIELDS)) {
    if (record[field] === undefined && OPTIONAL.includes(field)) continue;
    if (typeof record[field] !== type) throw new Error(`its field "${field}" is not a ${type}`);
  }
  return record as unknown as DeviceRecord;
}

const KNOWN = new Set(["version", "id", ...Object.keys(FIELDS)]);

/** CRC-32 of the record without white space, as hexadecimal. */
const checksum = (record: object) =>
  Bun.hash.crc32(JSON.stringify(record)).toString(16).padStart(8, "0");
