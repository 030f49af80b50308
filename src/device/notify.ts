// sd_notify(3): tells the service manager how this process is, over the socket that it names.

import { AF, close, MSG, sendto, SOCK, socket } from "../ffi/libc.ts";
import { unixAddress } from "./unix-socket.ts";

/** Sends `READY=1` and the like, a line each; false where nobody wants to know or nobody hears. */
export function notifyManager(
  state: Readonly<Record<string, string>>,
  path: string | undefined = process.env["NOTIFY_SOCKET"],
): boolean {
  const address = path === undefined ? undefined : unixAddress(path);
  if (address === undefined) return false;
  const lines = Object.entries(state).map(([name, value]) => `${name}=${value}\n`);
  const fd = socket(AF.UNIX, SOCK.DGRAM | SOCK.CLOEXEC);
  if (fd < 0) return false;
  // It may not read for long, or wait for a disk itself: only who is not ready without it waits for it.
  const flags = MSG.NOSIGNAL | ("READY" in state ? 0 : MSG.DONTWAIT);
  const sent = sendto(fd, Buffer.from(lines.join("")), flags, address);
  close(fd);
  return sent >= 0;
}
