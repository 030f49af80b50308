// fio writes what it can recognise, and reads it again: across modes, sizes and queues.

import { expect } from "bun:test";

import { isBatch } from "./batch.ts";
import { type Background, start } from "./crash.ts";
import { isFragile } from "./fragile.ts";
import { amount } from "./long.ts";
import { hasFeature, runOk } from "./program.ts";

/** The options of every data mode that the running kernel has; with --batch there is no --get-data. */
export async function dataModes(): Promise<string[]> {
  const registered = ["--zero-copy", "--auto-zc", "--auto-zc-fallback"];
  const hasRegistered = await hasFeature("AUTO_BUF_REG");
  const plain = ["--copy", ...(isBatch ? [] : ["--get-data"]), "--user-copy"];
  return [...plain, ...(hasRegistered ? registered : [])];
}

/** As many as a disk with `-q4` has here. */
export const QUEUES = Math.min(4, navigator.hardwareConcurrency);
/** Of each job: more than are under way at once, which are 128. */
const REQUESTS = amount({ short: 130, long: 300 });
const PART_MIB = 20 / QUEUES;
const LARGE = 4;

const COMMON =
  `fio --thread --ioengine=libaio --direct=1 --iodepth=128 --cpus_allowed=0-${QUEUES - 1}
  --cpus_allowed_policy=split --verify=crc32c --verify_fatal=1 --verify_state_save=0
  --output-format=json`.split(/\s+/);
// Where all is random, a large request would hardly ever find room between the small ones.
const MIXED = `--rw=randwrite --bssplit=512/31:1536/20:4k/30:13k/15:64k/4 --number_ios=${REQUESTS}
  --size=${PART_MIB}m --offset_increment=${PART_MIB}m --numjobs=${QUEUES}`.split(/\s+/);
const WHOLE = ["--rw=write", "--bs=1m", "--offset=20m", `--size=${LARGE}m`];

/**
 * Writes of 512 bytes to 1 MiB, then reads that compare, on the first 24 MiB of each disk: a job for each of
 * its queues, from a CPU of its own, 128 deep; and one more that writes whole mebibytes.
 */
export async function verifyMixed(...paths: string[]): Promise<void> {
  const job = (name: string, path: string) => [`--name=${name}`, `--filename=${path}`];
  const disks = paths.flatMap((path) => [job("mixed", path), MIXED, job("whole", path), WHOLE]);
  const text = await runOk(...COMMON, ...disks.flat());
  const { jobs } = JSON.parse(text.slice(text.indexOf("{")));
  expect(jobs).toHaveLength(paths.length * (QUEUES + 1));
  for (const { jobname, error, total_err: errors = 0, read, iodepth_level: depths } of jobs) {
    const isMixed = jobname === "mixed";
    const requests = isMixed ? REQUESTS : LARGE;
    expect({ error, errors, requests: read.total_ios }).toEqual({ error: 0, errors: 0, requests });
    if (isMixed) expect(depths[">=64"]).toBeGreaterThan(0);
  }
}

/** fio at the first 12 MiB of a disk for some seconds, with checksums: what is done meanwhile must not show. */
export async function verifyMeanwhile(path: string): Promise<Background> {
  const load = isFragile
    ? "--iodepth=1 --io_size=1m --thinktime=50ms"
    : "--iodepth=16 --io_size=8m --thinktime=20ms --thinktime_blocks=16";
  const words = `--name=meanwhile --filename=${path} --ioengine=libaio --direct=1 --rw=randwrite --bs=4k
    --size=12m ${load} --fsync=64 --verify=crc32c --verify_fatal=1 --verify_state_save=0`;
  return start("fio", ...words.split(/\s+/));
}
