// What the tortured disks lie on: files in memory and on an ext4, plain or striped.

import { Scratch } from "../scratch.ts";

const MIB = 1024 ** 2;

export interface Backings extends AsyncDisposable {
  /** Words for `add`: a new disk of this size, over the `n`th kind of backing. */
  words(n: number, sizeBytes: number): string[];
}

/** Room for disks of `sizeBytes` together. */
export async function makeBackings(sizeBytes: number): Promise<Backings> {
  const memory = await Scratch.memory("tmpfs", sizeBytes + 64 * MIB);
  const ext4 = await Scratch.make(["mkfs.ext4", "-q"], sizeBytes + 96 * MIB);
  let made = 0;
  const file = (scratch: Scratch, bytes: number) => scratch.file(`disk${made++}`, bytes);
  const kinds = [
    (bytes: number) => ["loop", "-f", file(memory, bytes)],
    (bytes: number) => stripe(file(ext4, bytes / 2), file(memory, bytes / 2)),
    (bytes: number) => ["loop", "-f", file(ext4, bytes)],
    (bytes: number) => stripe(file(memory, bytes / 2), file(ext4, bytes / 2)),
  ];
  return {
    words: (n, bytes) => kinds[n % kinds.length]!(bytes),
    [Symbol.asyncDispose]: async () => {
      await memory[Symbol.asyncDispose]();
      await ext4[Symbol.asyncDispose]();
    },
  };
}

const stripe = (...files: string[]) => [
  "stripe",
  "--chunk-size=4k",
  ...files.flatMap((path) => ["-f", path]),
];
