// The history check: stamped blocks from several writers, a log of what was acknowledged, and at the end
// every block read back, while the server dies again and again.

import { mkdtempSync, openSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { close, O, open, pread } from "../../../src/ffi/libc.ts";
import { mapMemory } from "../../../src/ffi/memory.ts";
import { start } from "../crash.ts";
import { program, repository, TestDevice } from "../program.ts";
import { makeBackings } from "./backing.ts";
import { monotonicNs } from "./clock.ts";
import { type Death, DEATHS, Mortal } from "./death.ts";
import { completedBytes, untilCompleted } from "./disk-stat.ts";
import { HistoryLog, readLogs, violations } from "./history.ts";
import { BLOCK_BYTES, readStamp } from "./stamp.ts";
import type { Torture, TortureResult } from "./torture.ts";
import { KernelLog } from "./watch.ts";

const WRITERS = 3;
/** Few, so that writers meet. */
const BLOCKS = 64;
const DISK_BYTES = 8 * 1024 ** 2;
/** At most so much is read and written between two deaths. */
const STRETCH_BYTES_MAX = 600 * BLOCK_BYTES;

/** How the disk's server dies, and which program takes over. */
export interface Server {
  readonly deaths: readonly Death[];
  readonly by?: string;
}

/** Runs the writers over a disk whose server dies `kills` times; what cannot be is not thrown here. */
export async function observe(device: TestDevice, run: Torture, { deaths, by = program }: Server) {
  const { kills, seed, random, say } = run;
  const home = mkdtempSync("/tmp/torture-history-");
  const stop = join(home, "stop");
  const logs = Array.from({ length: WRITERS }, (_, n) => join(home, `log${n}`));
  const writers = logs.map((log, n) => {
    const script = join(repository, "test/support/torture/writer.ts");
    const numbers = [n, BLOCKS, seed].map(String);
    return start(process.execPath, script, device.path, log, stop, ...numbers);
  });
  const mortal = new Mortal(device, { random, load: writers, by });
  const isOver = () => writers.some(({ running }) => !running);
  try {
    for (let i = 0; i <= kills; i++) {
      const at = completedBytes(device.id) + Math.floor((0.1 + random()) * STRETCH_BYTES_MAX);
      const moment = () => untilCompleted(device.id, at, isOver);
      // The last stretch is for what has been recovered.
      if (i === kills) await moment();
      else {
        const death = deaths[i % deaths.length]!;
        await mortal.die(death, moment);
        say(`history: ${death.signal} to the ${death.target} after ${at} bytes, recovered`);
      }
    }
    writeFileSync(stop, "");
    for (const { ended } of writers) {
      const { exitCode, stderr } = await ended;
      if (exitCode !== 0) throw new Error(`a writer: ${stderr}`);
    }
    readBack(device.path, join(home, "end"));
    const whole = readLogs([...logs, join(home, "end")]);
    const [writes, reads] = [whole.writes.length, whole.reads.length];
    return { violations: violations(whole), writes, reads, recoverMs: mortal.recoverMs };
  } finally {
    for (const writer of writers) await writer[Symbol.asyncDispose]();
    rmSync(home, { recursive: true });
  }
}

/** Every block, when all is over. */
function readBack(path: string, logFile: string): void {
  const log = new HistoryLog(openSync(logFile, "w"));
  using memory = mapMemory(BLOCK_BYTES);
  const words = new Uint32Array(memory.bytes.buffer, memory.bytes.byteOffset, BLOCK_BYTES / 4);
  const fd = open(path, O.RDONLY | O.DIRECT | O.CLOEXEC);
  for (let block = 0; block < BLOCKS; block++) {
    const issuedNs = monotonicNs();
    const result = pread(fd, memory.address, BLOCK_BYTES, block * BLOCK_BYTES);
    if (result !== BLOCK_BYTES) throw new Error(`read of block ${block}: ${result}`);
    log.read(block, readStamp(words), issuedNs);
  }
  close(fd);
}

export async function historyCheck(torture: Torture): Promise<TortureResult> {
  await using backings = await makeBackings(DISK_BYTES);
  const log = new KernelLog();
  await using device = await TestDevice.add(...backings.words(0, DISK_BYTES), "-n0", "-q2");
  const seen = await observe(device, torture, { deaths: DEATHS });
  const { violations: found, writes, reads, recoverMs } = seen;
  if (found.length > 0) throw new Error(`the disk has lied:\n${found.slice(0, 20).join("\n")}`);
  await log.assertNoErrors();
  return {
    kills: torture.kills,
    detail: `${writes} writes, ${reads} reads, all explained`,
    recoverMs,
  };
}
