// Memory that the kernel reads and writes: mapped, so that the garbage collector never moves it.

import { type Pointer, toArrayBuffer } from "bun:ffi";

import { assert, KernelError } from "../errors.ts";
import { errnoName } from "./errno.ts";
import { MAP, mmap, munmap, PROT } from "./libc.ts";

/** One view reaches no further: a limit of toArrayBuffer. */
const VIEW_BYTES_MAX = 2 ** 32;

/** Mapped memory. Dispose it only when neither kernel nor program uses it: a stale view crashes. */
export class MappedMemory implements Disposable {
  /** Where it begins, on a page boundary. */
  readonly address: number;
  readonly lengthBytes: number;
  #bytes: Uint8Array | undefined;
  #mapped = true;

  constructor(address: number, lengthBytes: number) {
    this.address = address;
    this.lengthBytes = lengthBytes;
  }

  /** All of it; at most 4 GiB. The view is made at the first use. */
  get bytes(): Uint8Array {
    this.#bytes ??= this.view(0, this.lengthBytes);
    return this.#bytes;
  }

  /** A new view of a part, 1 byte to 4 GiB long. Costs some 250 ns: make it once. */
  view(offsetBytes: number, lengthBytes: number): Uint8Array {
    assert(this.#mapped, "mapped memory is viewed before it is unmapped");
    assert(
      offsetBytes >= 0 && offsetBytes + lengthBytes <= this.lengthBytes,
      `bytes ${offsetBytes} to ${offsetBytes + lengthBytes} are inside ${this.lengthBytes}`,
    );
    return new Uint8Array(view(this.address + offsetBytes, lengthBytes));
  }

  /** munmap(2); a second time does nothing. */
  [Symbol.dispose](): void {
    if (!this.#mapped) return;
    this.#mapped = false;
    this.#bytes = undefined;
    const result = munmap(this.address, this.lengthBytes);
    assert(result === 0, `mapped memory can be unmapped: ${errnoName(-result)}`);
  }
}

/**
 * New memory, zeroed, private to the process, on a page boundary. With `noReserve` it counts
 * against no limit until it is touched: for buffers that may never be used.
 * @throws KernelError if the kernel refuses.
 */
export function mapMemory(
  lengthBytes: number,
  options: { noReserve?: boolean } = {},
): MappedMemory {
  const noReserve = options.noReserve === true ? MAP.NORESERVE : 0;
  const address = mmap({
    lengthBytes,
    protection: PROT.READ | PROT.WRITE,
    flags: MAP.PRIVATE | MAP.ANONYMOUS | noReserve,
    fd: -1,
    offsetBytes: 0,
  });
  if (address < 0) {
    throw new KernelError(`Cannot map ${amount(lengthBytes)}: ${errnoName(-address)}`, -address, {
      hint: "fewer queues, a smaller depth or smaller requests need less memory",
    });
  }
  return new MappedMemory(address, lengthBytes);
}

/**
 * Part of a file or character device, shared with the kernel and with others who map it. Memory
 * mapped `readOnly` must not be read with Atomics, which writes: that crashes.
 * @throws KernelError if the kernel refuses.
 */
export function mapFile(
  fd: number,
  offsetBytes: number,
  lengthBytes: number,
  options: { readOnly: boolean },
): MappedMemory {
  const address = mmap({
    lengthBytes,
    protection: options.readOnly ? PROT.READ : PROT.READ | PROT.WRITE,
    flags: MAP.SHARED,
    fd,
    offsetBytes,
  });
  if (address < 0) {
    const what = `${amount(lengthBytes)} at offset ${offsetBytes} of descriptor ${fd}`;
    throw new KernelError(`Cannot map ${what}: ${errnoName(-address)}`, -address);
  }
  return new MappedMemory(address, lengthBytes);
}

/** The address of mapped memory, as an argument of a foreign function. */
export function pointer(address: number): Pointer {
  return address as Pointer;
}

/** 32-bit words over memory that somebody else mapped; `address` is a multiple of 4. */
export function viewInt32(address: number, lengthBytes: number): Int32Array {
  return new Int32Array(view(address, lengthBytes));
}

function view(address: number, lengthBytes: number): ArrayBuffer {
  assert(
    address > 0 && lengthBytes > 0 && lengthBytes <= VIEW_BYTES_MAX,
    `a view covers 1 to ${VIEW_BYTES_MAX} bytes, not ${lengthBytes}`,
  );
  return toArrayBuffer(pointer(address), 0, lengthBytes);
}

function amount(lengthBytes: number): string {
  return `${lengthBytes} bytes (${(lengthBytes / 2 ** 20).toFixed(1)} MiB)`;
}
