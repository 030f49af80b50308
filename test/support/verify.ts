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

/** As many as a disk with `-q4` has here. */
export const QUEUES = Math.min(4, navigator.hardwareConcurrency);
const DEPTH = 128;
/** Of each job: more than its queue holds. */
const REQUESTS = amount({ short: 150, long: 300 });
const DISK_MIB = 24;
const JOB_MIB = DISK_MIB / QUEUES;

function expectNoErrors(text: string): void {
  const { jobs } = JSON.parse(text.slice(text.indexOf("{")));
  expect(jobs).toHaveLength(QUEUES);
  for (const job of jobs) {
    expect({ error: job.error, errors: job.total_err ?? 0 }).toEqual({ error: 0, errors: 0 });
    expect(job.read.total_ios).toBeGreaterThan(REQUESTS / 2);
    expect(job.iodepth_level[">=64"]).toBeGreaterThan(0);
  }
}

/**
 * Random writes of 512 bytes to 1 MiB at depth 128, then reads that compare: a job for each queue, from a
 * CPU of its own, in its own part of a disk of 24 MiB.
 */
export async function verifyMixed(path: string): Promise<void> {
  const words = `fio --name=verify --filename=${path} --ioengine=libaio --direct=1 --rw=randwrite
    --bssplit=512/30:1536/20:4k/30:13k/14:64k/4:256k/1:1m/1 --iodepth=${DEPTH} --size=${JOB_MIB}m
    --offset_increment=${JOB_MIB}m --number_ios=${REQUESTS} --numjobs=${QUEUES}
    --cpus_allowed=0-${QUEUES - 1} --cpus_allowed_policy=split --verify=crc32c --verify_interval=512
    --verify_fatal=1 --verify_state_save=0 --output-format=json`;
  expectNoErrors(await runOk(...words.split(/\s+/)));
}
