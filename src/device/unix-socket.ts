// Sockets that have a path: their address, and whether somebody listens.

import { ERRNO } from "../ffi/errno.ts";
import { AF, close, connect, SOCK, socket } from "../ffi/libc.ts";

const SUN_PATH_BYTES_MAX = 107;

/** struct sockaddr_un. "@" begins an abstract name: a zero byte, and no zero at its end. */
export function unixAddress(path: string): Uint8Array | undefined {
  const isAbstract = path.startsWith("@");
  if (!isAbstract && !path.startsWith("/")) return undefined;
  const name = Buffer.from(isAbstract ? `\0${path.slice(1)}` : `${path}\0`);
  if (name.length > SUN_PATH_BYTES_MAX + 1) return undefined;
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF.UNIX);
  return Buffer.concat([family, name]);
}

/** True where a process listens on that socket, as long as it lives; nothing is said to it. */
export function isListenedTo(path: string): boolean {
  const address = unixAddress(path);
  const fd =
    address === undefined ? -1 : socket(AF.UNIX, SOCK.STREAM | SOCK.CLOEXEC | SOCK.NONBLOCK);
  if (fd < 0) return false;
  const result = connect(fd, address!);
  close(fd);
  return result >= 0 || result === -ERRNO.EAGAIN;
}
