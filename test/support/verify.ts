// fio writes what it can recognise, and reads it again: across modes, sizes and queues.

import { expect } from "bun:test";

import { amount } from "./long.ts";
import { hasFeature, runOk } from "./program.ts";

/** The options of every data mode that the running kernel has. */
export async function dataModes(): Promise<string[]> {
  const registered = ["--zero-copy", "--auto-zc", "--auto-zc-fallback"];
  const hasRegistered = await hasFeature("AUTO_BUF_REG");
  return ["--copy", "--get-data", "--user-copy", ...(hasRegistered ? registered : [])];
}

function expectNoErrors(text: string, leastKib: number): void {
  const { jobs } = JSON.parse(text.slice(text.indexOf("{")));
  expect(jobs).toHaveLength(2);
  for (const job of jobs) {
    expect({ error: job.error, errors: job.total_err ?? 0 }).toEqual({ error: 0, errors: 0 });
    expect(job.read.io_kbytes).toBeGreaterThanOrEqual(leastKib);
  }
}

/** Two jobs, each in 12 MiB of its own. */
const COMMON = `fio --name=verify --ioengine=libaio --direct=1 --rw=randwrite --size=12m
  --offset_increment=12m --numjobs=2 --cpus_allowed=0,1 --cpus_allowed_policy=split --verify=crc32c
  --verify_fatal=1 --verify_state_save=0 --output-format=json`.split(/\s+/);

/** Random writes of 512 bytes to 1 MiB at depth 128, then reads that compare. */
export async function verifyMixed(path: string): Promise<void> {
  const ioMib = amount({ short: 2, long: 8 });
  const words = `--filename=${path} --iodepth=128 --io_size=${ioMib}m --verify_interval=512
    --bssplit=512/25:1536/15:4k/25:13k/15:64k/12:256k/6:1m/2`;
  expectNoErrors(await runOk(...COMMON, ...words.split(/\s+/)), (ioMib / 2) * 1024);
}
