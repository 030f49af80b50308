// One writer of the history check, a process of its own: direct writes and reads of stamped blocks,
// logged outside the disk, until a file tells it to stop.
//
//   bun writer.ts DISK LOG STOP-FILE NUMBER BLOCKS SEED

import { existsSync, openSync } from "node:fs";

import { errnoName } from "../../../src/ffi/errno.ts";
import { O, open, pread, pwrite } from "../../../src/ffi/libc.ts";
import { mapMemory } from "../../../src/ffi/memory.ts";
import { seeded } from "../seeded.ts";
import { monotonicNs } from "./clock.ts";
import { HistoryLog } from "./history.ts";
import { BLOCK_BYTES, readStamp, writeStamp } from "./stamp.ts";

const READ_RATE = 0.25;

const [disk = "", logFile = "", stopFile = "", ...numbers] = process.argv.slice(2);
const [writer = 0, blocks = 1, seed = 0] = numbers.map(Number);
const fd = open(disk, O.RDWR | O.DIRECT | O.CLOEXEC);
if (fd < 0) throw new Error(`Cannot open ${disk}: ${errnoName(-fd)}`);
const log = new HistoryLog(openSync(logFile, "w"));
const memory = mapMemory(BLOCK_BYTES);
const words = new Uint32Array(memory.bytes.buffer, memory.bytes.byteOffset, BLOCK_BYTES / 4);
const random = seeded(seed + writer);

/** What an application may never see while its disk's server dies. */
function whole(result: number, what: string): void {
  if (result !== BLOCK_BYTES)
    throw new Error(`${what}: ${result < 0 ? errnoName(-result) : result}`);
}

let sequence = 0;
while (!existsSync(stopFile)) {
  const block = Math.floor(random() * blocks);
  if (random() < READ_RATE) {
    const issuedNs = monotonicNs();
    whole(pread(fd, memory.address, BLOCK_BYTES, block * BLOCK_BYTES), `read of block ${block}`);
    log.read(block, readStamp(words), issuedNs);
    continue;
  }
  sequence++;
  writeStamp(words, { block, writer, sequence });
  log.issued(block, sequence);
  whole(pwrite(fd, memory.address, BLOCK_BYTES, block * BLOCK_BYTES), `write of block ${block}`);
  log.acked(sequence);
}
