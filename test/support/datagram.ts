// A unix datagram socket to receive from, which Bun has none of: what a service manager listens on.

import { dlopen, FFIType } from "bun:ffi";

const C = dlopen("libc.so.6", {
  socket: { args: ["i32", "i32", "i32"], returns: "i32" },
  bind: { args: ["i32", "ptr", "u32"], returns: "i32" },
  recv: { args: ["i32", "ptr", "u32", "i32"], returns: FFIType.i64_fast },
  close: { args: ["i32"], returns: "i32" },
}).symbols;

const [AF_UNIX, SOCK_DGRAM, MSG_DONTWAIT] = [1, 2, 0x40];

export class DatagramSocket implements Disposable {
  readonly #fd: number;

  /** `name`: a path, or "@" and an abstract name. */
  constructor(name: string) {
    this.#fd = C.socket(AF_UNIX, SOCK_DGRAM, 0);
    const path = name.startsWith("@") ? `\0${name.slice(1)}` : `${name}\0`;
    const address = Buffer.concat([Buffer.from([AF_UNIX, 0]), Buffer.from(path)]);
    if (C.bind(this.#fd, address, address.length) < 0) throw new Error(`cannot bind ${name}`);
  }

  /** The next message; "" when there is none. */
  receive(): string {
    const bytes = Buffer.alloc(4096);
    const length = Number(C.recv(this.#fd, bytes, bytes.length, MSG_DONTWAIT));
    return bytes.toString("utf8", 0, Math.max(0, length));
  }

  [Symbol.dispose](): void {
    C.close(this.#fd);
  }
}
