// An encrypted disk: AES-256-XTS over a file, each block with its number as the tweak.
//
//   openssl rand -hex 64 > key; truncate -s 1G disk.img
//   ublk-bun add --target ./encrypt.ts --param path=disk.img --param key=key
import { createCipheriv, createDecipheriv } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";

import { BlockError, defineTarget } from "ublk-bun";

const BLOCK = 4096;

/** A whole number of 16-byte units through AES-256, each for itself. */
function aes(what: "encrypt" | "decrypt", key: Buffer, units: Uint8Array): Uint8Array {
  const make = what === "encrypt" ? createCipheriv : createDecipheriv;
  return make("aes-256-ecb", key, null).setAutoPadding(false).update(units);
}

/**
 * AES-256-XTS (IEEE 1619): every unit is XORed with a mask before AES and after it. The first mask of a
 * block is its encrypted number, each further one the one before it times x in GF(2^128).
 */
export function crypt(what: "encrypt" | "decrypt", key: Buffer, first: number, from: Uint8Array) {
  const numbers = new BigUint64Array((2 * from.length) / BLOCK);
  for (let i = 0; i < numbers.length; i += 2) numbers[i] = BigInt(first + i / 2);
  const starts = aes("encrypt", key.subarray(32), new Uint8Array(numbers.buffer));
  const start = new DataView(starts.buffer, starts.byteOffset, starts.length);
  const masks = new Int32Array(from.length / 4);
  for (let i = 0; i < masks.length; i += 4) {
    if (i % (BLOCK / 4) === 0) {
      const at = (i / (BLOCK / 4)) * 16;
      for (let word = 0; word < 4; word++) masks[i + word] = start.getInt32(at + word * 4, true);
      continue;
    }
    for (let word = 0; word < 4; word++) {
      const below = word === 0 ? 0 : masks[i - 5 + word]! >>> 31;
      masks[i + word] = (masks[i - 4 + word]! << 1) | below;
    }
    if (masks[i - 1]! < 0) masks[i]! ^= 0x87;
  }
  const units = new Int32Array(from.slice().buffer);
  for (let i = 0; i < units.length; i++) units[i]! ^= masks[i]!;
  const result = new Uint8Array(aes(what, key.subarray(0, 32), new Uint8Array(units.buffer)));
  const words = new Int32Array(result.buffer);
  for (let i = 0; i < words.length; i++) words[i]! ^= masks[i]!;
  return result;
}

async function readAll(file: FileHandle, offset: number, into: Uint8Array): Promise<void> {
  for (let done = 0; done < into.length;) {
    const { bytesRead } = await file.read(into, done, into.length - done, offset + done);
    if (bytesRead === 0) throw new BlockError("EIO", "the file has become shorter");
    done += bytesRead;
  }
}

async function writeAll(file: FileHandle, offset: number, from: Uint8Array): Promise<void> {
  for (let done = 0; done < from.length;) {
    const { bytesWritten } = await file.write(from, done, from.length - done, offset + done);
    done += bytesWritten;
  }
}

export default defineTarget({
  summary: "AES-256-XTS over a file",
  params: {
    path: { type: "path", required: true, help: "file with the encrypted blocks" },
    key: { type: "secret", required: true, help: "file with the key: 128 hexadecimal digits" },
  },
  async open({ path, key: hex }) {
    if (!/^[0-9a-f]{128}$/i.test(hex)) throw new Error("the key is not 128 hexadecimal digits");
    const key = Buffer.from(hex, "hex");
    const file = await open(path, "r+");
    const { size } = await file.stat();
    return {
      sizeBytes: size - (size % BLOCK),
      logicalBlockBytes: BLOCK,
      async read(offset, into) {
        await readAll(file, offset, into);
        into.set(crypt("decrypt", key, offset / BLOCK, into));
      },
      // `from` may only be read: it is not encrypted where it lies.
      write: (offset, from) => writeAll(file, offset, crypt("encrypt", key, offset / BLOCK, from)),
      flush: () => file.datasync(),
      close: () => file.close(),
    };
  },
});
