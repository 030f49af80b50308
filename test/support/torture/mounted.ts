// ext4 mounted while its disk's server dies again and again under a file workload; afterwards fsck finds
// nothing, and every file that is to be there holds what was written.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { start } from "../crash.ts";
import { repository, runOk, TestDevice } from "../program.ts";
import { makeBackings } from "./backing.ts";
import { DEATHS, Mortal } from "./death.ts";
import { completedBytes, untilCompleted } from "./disk-stat.ts";
import type { Torture, TortureResult } from "./torture.ts";
import { KernelLog } from "./watch.ts";

const DISK_BYTES = 64 * 1024 ** 2;
const WORKERS = 2;
/** At most so much is read and written between two deaths. */
const STRETCH_BYTES_MAX = 4 * 1024 ** 2;

/** name -> checksum of what a workload has left in its folder. */
type Ledger = Readonly<Record<string, string>>;

export async function mounted({ kills, seed, random, say }: Torture): Promise<TortureResult> {
  const home = mkdtempSync("/tmp/torture-mounted-");
  const mountPoint = join(home, "mnt");
  const stop = join(home, "stop");
  await using backings = await makeBackings(DISK_BYTES);
  const log = new KernelLog();
  await using device = await TestDevice.add(...backings.words(1, DISK_BYTES), "-n0", "-q2");
  await runOk("mkfs.ext4", "-q", device.path);
  await runOk("mkdir", mountPoint);
  await runOk("mount", device.path, mountPoint);
  const workloads = Array.from({ length: WORKERS }, (_, n) => {
    const program = join(repository, "test/support/torture/files.ts");
    const words = [program, join(mountPoint, `folder${n}`), join(home, `ledger${n}`), stop];
    return start(process.execPath, ...words, String(seed + n));
  });
  const isOver = () => workloads.some(({ running }) => !running);
  const mortal = new Mortal(device, { random, load: workloads });
  try {
    for (let i = 0; i < kills; i++) {
      const at = completedBytes(device.id) + 1 + Math.floor(random() * STRETCH_BYTES_MAX);
      const death = DEATHS[i % DEATHS.length]!;
      await mortal.die(death, () => untilCompleted(device.id, at, isOver));
      say(`mounted: ${death.signal} to the ${death.target} after ${at} bytes, recovered`);
    }
    writeFileSync(stop, "");
    for (const { ended } of workloads) {
      const { exitCode, stderr } = await ended;
      if (exitCode !== 0) throw new Error(`the workload: ${stderr}`);
    }
  } finally {
    for (const workload of workloads) await workload[Symbol.asyncDispose]();
    await runOk("umount", mountPoint);
  }
  await runOk("e2fsck", "-fn", device.path);
  const files = await compare(device.path, mountPoint, home);
  await log.assertNoErrors();
  rmSync(home, { recursive: true });
  return { kills, detail: `fsck clean, ${files} files compared`, recoverMs: mortal.recoverMs };
}

/** Every file, read from the disk again, against the workloads' ledgers. */
async function compare(disk: string, mountPoint: string, home: string): Promise<number> {
  await runOk("mount", "-o", "ro", disk, mountPoint);
  try {
    let files = 0;
    for (let n = 0; n < WORKERS; n++) {
      const folder = join(mountPoint, `folder${n}`);
      const wanted = JSON.parse(readFileSync(join(home, `ledger${n}`), "utf8")) as Ledger;
      const found = Object.fromEntries(
        readdirSync(folder).map((name) => [
          name,
          Bun.SHA1.hash(readFileSync(join(folder, name)), "hex"),
        ]),
      );
      if (!Bun.deepEquals(found, wanted)) {
        throw new Error(`${folder} holds ${JSON.stringify(found)}, not ${JSON.stringify(wanted)}`);
      }
      files += Object.keys(wanted).length;
    }
    if (files === 0) throw new Error("the workloads have left no files");
    return files;
  } finally {
    await runOk("umount", mountPoint);
  }
}
