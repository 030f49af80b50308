// The path of a device's char node, which stands before the payload of some commands.

import type { Frame } from "../command.ts";

/** Room for "/dev/ublkcN" and its NUL, rounded up so that the payload behind it stays aligned. */
export const DEVICE_PATH_BYTES_MAX = 64;

/** Puts `path` and its NUL at the start of the buffer. */
export function writeDevicePath(frame: Frame, path: string): void {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length >= DEVICE_PATH_BYTES_MAX) throw new RangeError(`Device path too long: ${path}`);
  bytes.forEach((byte, i) => frame.view.setUint8(i, byte));
  frame.pathBytes = DEVICE_PATH_BYTES_MAX;
}
