// Opens the files of the run folder that are written to as they grow: locks and logs.

import { openSync } from "../builtin.ts";
import { O } from "../ffi/libc.ts";

/** Never through a link: in a folder like /tmp anybody can have put one in its place. */
export function openToAppend(path: string): number {
  return openSync(path, O.RDWR | O.APPEND | O.CREAT | O.NOFOLLOW, 0o600);
}
