// REG_BUF: gives the kernel memory that clients and server share (UBLK_F_SHMEM_ZC).

import { UBLK_CMD, UBLK_F, ublk_shmem_buf_reg } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export interface SharedBuffer {
  /** Page aligned. */
  readonly address: bigint;
  /** A multiple of the page size, at most 4 GiB. */
  readonly lengthBytes: bigint;
  /** UBLK_SHMEM_BUF bits. */
  readonly flags: number;
}

/** Replies with the buffer's index. */
export const regBuf = defineCommand<SharedBuffer, number>({
  name: "REG_BUF",
  op: UBLK_CMD.REG_BUF,
  needs: UBLK_F.SHMEM_ZC,
  since: "7.1",
  bufferBytes: ublk_shmem_buf_reg.sizeBytes,
  encode: ({ address, lengthBytes, flags }, frame) =>
    ublk_shmem_buf_reg.write(frame.view, { addr: address, len: lengthBytes, flags }),
  decode: (_frame, result) => result,
  causes: { EEXIST: { why: "some of this memory is registered already" } },
});
