// The ring loop on NOPs: our Ring class against C with liburing's inline functions, in one process.
//
//   bun bench/nop.ts [--rounds N] [--check]
//
// Both fill whole entries, use a registered ring descriptor and the same liburing.so.2. Rounds of
// the two alternate, so that what disturbs the machine disturbs both. --check: exit 1 above 1.05.

import { dlopen } from "bun:ffi";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { loadLiburing } from "../src/ffi/liburing.ts";
import { IORING_SETUP } from "../src/ffi/uring.ts";
import { prepNop, setUserData } from "../src/ring/ops.ts";
import { Ring } from "../src/ring/ring.ts";
import { kernelHeaders73, liburingDev, liburingSo } from "../test/support/debian.ts";

const BATCHES = [1, 8, 32, 64];
const OPS_PER_ROUND = 32_000;
const RATIO_MAX = 1.05;
const SIZES = { entries: 128, cqEntries: 256 };
const FLAGS = IORING_SETUP.SINGLE_ISSUER | IORING_SETUP.DEFER_TASKRUN;

let completed = 0;
let sum = 0;

function onNop(lo: number, _hi: number, result: number): void {
  completed = (completed + 1) | 0;
  sum = (sum + lo + result) | 0;
}

// One function, like its peer in nop.c: a call for each batch would cost 5 ns of a NOP's 350.
function runOurs(ring: Ring, batches: number, batch: number): number {
  const { sqes } = ring;
  completed = 0;
  const begin = Bun.nanoseconds();
  for (let b = 0; b < batches; b++) {
    for (let n = 0; n < batch; n++) {
      const at = ring.sqe();
      prepNop(sqes, at);
      setUserData(sqes, at, n, 0);
    }
    if (ring.submitAndWait(batch) < 0) throw new Error("io_uring_enter failed");
    ring.reap(onNop);
  }
  const elapsedNs = Bun.nanoseconds() - begin;
  if (completed !== batches * batch) throw new Error(`${completed} NOPs completed`);
  return elapsedNs;
}

/** The C loop, built and loaded; it reaches its own ring on this thread. */
async function loadPeer(so: string) {
  const { include } = await liburingDev();
  const folder = mkdtempSync(join(tmpdir(), "ublk-bun-nop-"));
  const output = join(folder, "nop.so");
  const source = join(import.meta.dir, "nop.c");
  // liburing 2.9 needs newer kernel headers than Debian 12 has.
  const kernel = await kernelHeaders73();
  const includes = [include, kernel, join(kernel, "x86_64-linux-gnu")];
  const flags = ["-O2", "-shared", "-fPIC", ...includes.flatMap((path) => ["-isystem", path])];
  const words = ["gcc", ...flags, source, so, "-o", output];
  const built = Bun.spawnSync(words, { stderr: "inherit" });
  if (!built.success) throw new Error(`Cannot build nop.c: ${words.join(" ")}`);
  const { symbols } = dlopen(output, {
    nop_open: { args: ["u32", "u32", "u32"], returns: "i32" },
    nop_run: { args: ["u32", "u32"], returns: "f64" },
    nop_close: { args: [], returns: "void" },
  });
  rmSync(folder, { recursive: true });
  return symbols;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1]!;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "101" },
      check: { type: "boolean", default: false },
    },
  });
  const rounds = Number(values.rounds);
  const so = await liburingSo();
  const peer = await loadPeer(so);
  const opened = peer.nop_open(SIZES.entries, SIZES.cqEntries, FLAGS);
  if (opened < 0) throw new Error(`io_uring_queue_init_params: ${opened}`);
  using ring = new Ring({ liburing: loadLiburing(so), ...SIZES, flags: FLAGS });
  ring.registerRingFd();

  for (const batch of BATCHES) {
    for (let n = 0; n < 20; n++) runOurs(ring, OPS_PER_ROUND / batch, batch);
  }
  console.log("| batch | C ns/op | Ring ns/op | ratio of medians |\n|--:|--:|--:|--:|");
  let worst = 0;
  for (const batch of BATCHES) {
    const batches = Math.ceil(OPS_PER_ROUND / batch);
    const ours: number[] = [];
    const theirs: number[] = [];
    runOurs(ring, batches, batch);
    for (let round = 0; round < rounds; round++) {
      // Which one goes first alternates as well.
      if (round % 2 === 0) theirs.push(peer.nop_run(batches, batch));
      ours.push(runOurs(ring, batches, batch));
      if (round % 2 === 1) theirs.push(peer.nop_run(batches, batch));
    }
    const ratio = median(ours) / median(theirs);
    worst = Math.max(worst, ratio);
    const perOp = (value: number) => (value / (batches * batch)).toFixed(1);
    const cells = [batch, perOp(median(theirs)), perOp(median(ours)), ratio.toFixed(3)];
    console.log(`| ${cells.join(" | ")} |`);
  }
  peer.nop_close();
  if (values.check && worst > RATIO_MAX) process.exitCode = 1;
}

await main();
