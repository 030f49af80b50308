// fio writes what it can recognise, and reads it again: across modes, sizes, queues, and dead servers.

import { expect } from "bun:test";

import { inFlight, killNow, start } from "./crash.ts";
import { amount } from "./long.ts";
import { hasFeature, runOk, type TestDevice, ublkOk, until } from "./program.ts";

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

/** The same in pieces of 4 KiB to 128 KiB, while the server is killed and its disk recovered. */
export async function verifyThroughKills(device: TestDevice): Promise<void> {
  const kills = amount({ short: 3, long: 4 });
  // Its pauses make it last while the disk is served, so that it cannot end before the kills do.
  const words = `--filename=${device.path} --iodepth=32 --bssplit=4k/70:20k/20:128k/10
    --verify_interval=4096 --thinktime=30ms --thinktime_blocks=16`;
  await using fio = start(...COMMON, ...words.split(/\s+/));
  const isFragile = !(await hasFeature("UPDATE_SIZE"));
  for (let n = 1; n <= kills; n++) {
    await until("fio's requests", () => inFlight(device.id) > 0 || !fio.running);
    expect(fio.running).toBe(true);
    if (isFragile) {
      // Linux 6.12 can crash when a server dies while a request is being given to it: see
      // docs/troubleshooting.md. What fio sends once the server is gone waits for the next one.
      await runOk("pkill", "-STOP", "-x", "fio");
      await until("nothing in flight", () => inFlight(device.id) === 0);
    }
    killNow(device.id);
    if (isFragile) await runOk("pkill", "-CONT", "-x", "fio");
    expect(await ublkOk("recover", String(device.id))).toContain(`restarts ${n}\n`);
  }
  const { exitCode, stdout, stderr } = await fio.ended;
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  expectNoErrors(stdout, 8 * 1024);
}
