// Files that take no room until they are written.

import { closeSync, openSync, truncateSync } from "node:fs";

/** A sparse file of this size. */
export function sparseFile(path: string, sizeBytes: number): string {
  closeSync(openSync(path, "a"));
  truncateSync(path, sizeBytes);
  return path;
}
