// One data buffer a tag, at addresses that do not change unless a buffer is given up.

import { UblkError } from "../errors.ts";
import { mapMemory, type MappedMemory } from "../ffi/memory.ts";

/** One mapping stays below what a single typed array view can cover. */
const MAPPING_BYTES_MAX = 1024 ** 3;

export interface TagMemoryOptions {
  readonly depth: number;
  /** max_io_buf_bytes of the device: a multiple of the page size. */
  readonly bytesPerTag: number;
  /** The target never looks at the data: one buffer serves all tags. */
  readonly shared: boolean;
}

const mib = (bytes: number) => `${bytes / 1024 ** 2} MiB`;

/**
 * The data buffers of one queue: in copy mode the kernel takes READ data from the address given with
 * the commit and puts WRITE data at the address given before it.
 * Reserved, not committed: a page costs memory only once data has passed through it.
 */
export class TagMemory implements Disposable {
  private readonly mappings: MappedMemory[] = [];
  private readonly addresses: Float64Array;
  private readonly bytesPerTag: number;

  /** Throws UblkError, with the arithmetic, when it does not fit. */
  constructor({ depth, bytesPerTag, shared }: TagMemoryOptions) {
    this.addresses = new Float64Array(depth);
    this.bytesPerTag = bytesPerTag;
    const buffers = shared ? 1 : depth;
    const perMapping = Math.max(1, Math.floor(MAPPING_BYTES_MAX / bytesPerTag));
    try {
      for (let first = 0; first < buffers; first += perMapping) {
        const count = Math.min(perMapping, buffers - first);
        const mapping = mapMemory(count * bytesPerTag, { noReserve: true });
        this.mappings.push(mapping);
        for (let i = 0; i < count; i++) {
          this.addresses[first + i] = mapping.address + i * bytesPerTag;
        }
      }
    } catch (cause) {
      this[Symbol.dispose]();
      throw new UblkError(
        `Cannot reserve the data buffers of one queue: ${buffers} x ${mib(bytesPerTag)} = ` +
          `${mib(buffers * bytesPerTag)} of address space`,
        { cause, hint: "use a smaller --depth, --queues or --io-buf-size" },
      );
    }
    if (shared) this.addresses.fill(this.addresses[0]!);
  }

  /** Address of the tag's buffer, page aligned. */
  address(tag: number): number {
    return this.addresses[tag]!;
  }

  /**
   * Gives the tag a buffer that nobody has seen. The old one stays mapped until the end, for somebody
   * may still write to it, and is never handed out again. Throws KernelError without address space.
   */
  replace(tag: number): void {
    const mapping = mapMemory(this.bytesPerTag, { noReserve: true });
    this.mappings.push(mapping);
    this.addresses[tag] = mapping.address;
  }

  [Symbol.dispose](): void {
    for (const mapping of this.mappings.splice(0)) mapping[Symbol.dispose]();
  }
}
