// The verified crash: fio writes blocks with checksums at depth 32 from two jobs and verifies them, while
// the server dies again and again. Every block is written once, and read back at least twice.

import { start } from "../crash.ts";
import { hasFeature, run, TestDevice } from "../program.ts";
import { makeBackings } from "./backing.ts";
import { DEATHS, dieAndRecover } from "./death.ts";
import { untilCompleted } from "./disk-stat.ts";
import type { Torture, TortureResult } from "./torture.ts";
import { DiskNode, KernelLog } from "./watch.ts";

const MIB = 1024 ** 2;
const JOBS = 2;
/** What the kernels have; the first ones everywhere. */
const MODES = [
  { option: "--copy", feature: undefined },
  { option: "--get-data", feature: "NEED_GET_DATA" },
  { option: "--user-copy", feature: "USER_COPY" },
  { option: "--zero-copy", feature: "SUPPORT_ZERO_COPY" },
  { option: "--auto-zc", feature: "AUTO_BUF_REG" },
  { option: "--auto-zc-fallback", feature: "AUTO_BUF_REG" },
] as const;

async function modes(): Promise<string[]> {
  const found: string[] = [];
  for (const { option, feature } of MODES) {
    if (feature === undefined || (await hasFeature(feature))) found.push(option);
  }
  return found;
}

function fioWords(path: string, jobBytes: number, seed: number, ...more: string[]): string[] {
  const words = `--name=job --filename=${path} --rw=randwrite --bs=4k --direct=1
    --ioengine=libaio --iodepth=32 --numjobs=${JOBS} --size=${jobBytes} --offset_increment=${jobBytes}
    --randseed=${seed} --verify=crc32c --verify_fatal=1 --thread --group_reporting --minimal`;
  return ["fio", ...words.split(/\s+/), ...more];
}

/** Kills spread over a job whose length in requests is known: fio cannot end before the last. */
async function crashes(device: TestDevice, kills: number, { seed, random, say }: Torture) {
  // Some 150 requests for each kill and job, whole MiB.
  const jobBytes = Math.max(4, Math.ceil((kills * 150) / 256)) * MIB;
  const requests = (2 * JOBS * jobBytes) / 4096;
  const node = new DiskNode(device.id);
  const pauses: number[] = [];
  await using fio = start(...fioWords(device.path, jobBytes, seed, "--verify_backlog=256"));
  for (let i = 0; i < kills; i++) {
    const at = Math.floor(((i + 0.9 * random()) * requests) / kills);
    const death = DEATHS[Math.floor(random() * DEATHS.length)]!;
    const moment = () => untilCompleted(device.id, at, () => !fio.running);
    pauses.push(await dieAndRecover({ device, death, node, random, moment }));
    say(`${device.path}: ${death.signal} to the ${death.target} after ${at} requests, recovered`);
  }
  const { exitCode, stdout, stderr } = await fio.ended;
  if (exitCode !== 0 || stderr !== "") throw new Error(`fio: ${exitCode} ${stderr}${stdout}`);
  const again = await run(fioWords(device.path, jobBytes, seed, "--verify_only"));
  if (again.exitCode !== 0) throw new Error(`read back: ${again.stderr}${again.stdout}`);
  node.assertSame();
  return { pauses, requests };
}

/** Every data mode that the kernel has gets its share of the kills, over each kind of backing in turn. */
export async function verified(torture: Torture): Promise<TortureResult> {
  const { kills, say } = torture;
  const options = await modes();
  const share = Math.ceil(kills / options.length);
  const sizeBytes = 2 * JOBS * Math.max(4, share) * MIB;
  await using backings = await makeBackings(sizeBytes * options.length);
  const log = new KernelLog();
  const results = [];
  for (const [n, option] of options.entries()) {
    const words = [...backings.words(n, sizeBytes), "-n0", "-q2", option];
    say(`add ${words.join(" ")}: ${share} kills`);
    await using device = await TestDevice.add(...words);
    results.push(await crashes(device, share, torture));
  }
  const errors = await log.errors();
  if (errors.length > 0) throw new Error(`the kernel's log: ${errors.join("\n")}`);
  return {
    kills: share * options.length,
    detail: `${options.length} data modes, ${results.reduce((sum, r) => sum + r.requests, 0)} requests`,
    recoverMs: results.flatMap(({ pauses }) => pauses),
  };
}
