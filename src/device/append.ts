// Opens the files of the run folder that are written to as they grow: locks and logs.

import { constants, openSync } from "node:fs";

const { O_APPEND, O_CREAT, O_NOFOLLOW, O_RDWR } = constants;

/** Never through a link: in a folder like /tmp anybody can have put one in its place. */
export function openToAppend(path: string): number {
  return openSync(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600);
}
