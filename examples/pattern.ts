// A disk that is computed: every eight bytes are their own offset. Nothing is stored anywhere.
//
//   ublk-bun add --target ./pattern.ts --param size=1TiB
import { defineTarget } from "ublk-bun";

export default defineTarget({
  summary: "every eight bytes are their own offset, little endian",
  params: { size: { type: "size", default: "1TiB", help: "size of the disk" } },
  open: ({ size }) => ({
    sizeBytes: size,
    // There is no write, so the disk is read-only.
    read(offset, into) {
      const words = new Uint32Array(into.buffer, into.byteOffset, into.length / 4);
      for (let i = 0; i < words.length; i += 2) {
        const at = offset + i * 4;
        words[i] = at;
        words[i + 1] = Math.floor(at / 4294967296);
      }
    },
  }),
});
