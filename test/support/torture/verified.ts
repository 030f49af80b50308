// The verified crash: fio writes blocks with checksums at depth 32 from two jobs, and reads them all again,
// while the server dies again and again.

import { isBatch } from "../batch.ts";
import { start } from "../crash.ts";
import { hasFeature, TestDevice } from "../program.ts";
import { dataModes } from "../verify.ts";
import { endWatch, startWatch } from "../watching.ts";
import { makeBackings } from "./backing.ts";
import { DEATHS, Mortal } from "./death.ts";
import { completedBytes, untilCompleted, untilDone } from "./disk-stat.ts";
import type { Torture, TortureResult } from "./torture.ts";
import { KernelLog } from "./watch.ts";

const MIB = 1024 ** 2;
const JOBS = 2;
/** Some 150 requests for each kill and job. */
const jobMib = (kills: number) => Math.max(4, 2 * kills);

const FIO =
  `fio --name=job --rw=randwrite --bssplit=4k/70:20k/20:128k/10 --direct=1 --ioengine=libaio
  --iodepth=32 --numjobs=${JOBS} --verify=crc32c --verify_interval=4096 --verify_fatal=1
  --verify_state_save=0 --thread --group_reporting --minimal`.split(/\s+/);

/**
 * fio over `device`, whose server dies `kills` times: spread over a job whose length in bytes is known, so
 * that fio cannot end before the last. The disk has two queues, and 8 MiB or 4 MiB a kill. `dying` is
 * whose server dies, where that is a disk below; `isWatched`: not we but `watch` recovers it.
 */
export async function verifyThroughDeaths(
  device: TestDevice,
  { kills, seed, random, say }: Torture,
  { dying = device, isWatched = false }: { dying?: TestDevice; isWatched?: boolean } = {},
): Promise<readonly number[]> {
  const log = new KernelLog();
  const jobBytes = jobMib(kills) * MIB;
  const words = [`--size=${jobBytes}`, `--offset_increment=${jobBytes}`, `--randseed=${seed}`];
  const first = completedBytes(device.id);
  await using fio = start(...FIO, `--filename=${device.path}`, ...words);
  const mortal = new Mortal(dying, { random, load: [fio], isWatched });
  for (let i = 0; i < kills; i++) {
    const at = Math.floor(((i + random()) * 0.95 * (2 * JOBS * jobBytes)) / kills);
    const death = DEATHS[i % DEATHS.length]!;
    await mortal.die(death, () => untilCompleted(device.id, first + at, () => !fio.running));
    say(`${dying.path}: ${death.signal} to the ${death.target} after ${at} bytes, recovered`);
  }
  await untilDone(device.id, () => !fio.running);
  const { exitCode, stdout, stderr } = await fio.ended;
  if (exitCode !== 0 || stderr !== "") throw new Error(`fio: ${exitCode} ${stderr}${stdout}`);
  await log.assertNoErrors();
  return mortal.recoverMs;
}

/** The options of each data mode, and where the kernel can do it of its twin with batch commands. */
async function modesAndTwins(): Promise<string[][]> {
  const modes = await dataModes();
  const twins = !isBatch && (await hasFeature("BATCH_IO")) ? modes : [];
  return [
    ...modes.map((mode) => [mode]),
    ...twins.filter((mode) => mode !== "--get-data").map((mode) => [mode, "--batch"]),
  ];
}

/** Each data mode gets its share of the kills, over each kind of backing in turn. */
export async function verified(torture: Torture): Promise<TortureResult> {
  const { kills, say } = torture;
  const options = await modesAndTwins();
  const share = Math.ceil(kills / options.length);
  const sizeBytes = JOBS * jobMib(share) * MIB;
  await using backings = await makeBackings(sizeBytes * options.length);
  const recoverMs: number[] = [];
  for (const [n, option] of options.entries()) {
    const words = [...backings.words(n, sizeBytes), "-n0", "-q2", ...option];
    say(`add ${words.join(" ")}: ${share} kills`);
    await using device = await TestDevice.add(...words);
    recoverMs.push(...(await verifyThroughDeaths(device, { ...torture, kills: share })));
  }
  const mib = 2 * JOBS * jobMib(share) * options.length;
  return {
    kills: share * options.length,
    detail: `${options.length} data modes, ${mib} MiB written and read`,
    recoverMs,
  };
}

/** No crash loop: the servers die on purpose. */
const PATIENT = ["--max-restarts=1000000", "--max-backoff=1s"];

/** The same with `watch` to recover the disk, over each kind of backing; then with standbys. */
export async function watched(torture: Torture): Promise<TortureResult> {
  const ways = [[], [], ["--standby"], ["--standby"]];
  const share = Math.ceil(torture.kills / ways.length);
  const sizeBytes = JOBS * jobMib(share) * MIB;
  await using backings = await makeBackings(sizeBytes * ways.length);
  const recoverMs: number[] = [];
  for (const [n, way] of ways.entries()) {
    const words = [...backings.words(n, sizeBytes), "-n0", "-q2"];
    torture.say(`watch ${way.join(" ")}, add ${words.join(" ")}: ${share} kills`);
    await using device = await TestDevice.add(...words);
    await using watch = await startWatch(...PATIENT, ...way);
    const run = { ...torture, kills: share };
    recoverMs.push(...(await verifyThroughDeaths(device, run, { isWatched: true })));
    await endWatch(watch);
  }
  return { kills: share * ways.length, detail: "half of them with standbys", recoverMs };
}
