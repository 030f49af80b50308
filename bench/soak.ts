// Ten minutes at full load: memory stays, no queue's thread collects anything, no request fails.
//
//   bun bench/soak.ts [--kernel 6.12|7.3] [--minutes N] [--batch]      boots a guest, prints a table
//
// The disk is handed over, by `upgrade`, to a server that tells its log of every collection (BUN_JSC_logGC):
// the environment of a server is clean otherwise. Main's event loop has its heap looked through every few
// seconds, which nobody waits for. Ends with 1 when one of the three does not hold.

import { chmodSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

import { runGuest } from "../test/support/guest/guest.ts";
import { KERNELS } from "../test/support/guest/kernel.ts";
import { rssOf } from "./measure.ts";
import { sh } from "./servers.ts";

const { values, positionals } = parseArgs({
  options: {
    kernel: { type: "string", default: "7.3" },
    minutes: { type: "string", default: "10" },
    batch: { type: "boolean", default: false },
  },
  allowPositionals: true,
});
const minutes = Number(values.minutes);
const QUEUES = 2;
const OURS = "dist/ublk-bun";
const LOG = "/run/ublk-bun/0.log";
const TELLING = "/tmp/ublk-bun-telling";
/** JavaScript is compiled, memory of the start given back. */
const SETTLE_MS = 60_000;
const LOOK_MS = 5000;
/** Of the first look. */
const RSS_GROWN_MAX = 0.05;

async function outside(): Promise<number> {
  const kernel = KERNELS.find((name) => name === values.kernel);
  if (kernel === undefined) throw new Error(`--kernel is one of ${KERNELS.join(", ")}`);
  const { exitCode } = await runGuest({
    kernel,
    command: `node_modules/.bin/bun bench/soak.ts --minutes ${minutes} ${values.batch ? "--batch" : ""} inside`,
    timeoutMs: (minutes + 5) * 60_000,
    onOutput: (text) => process.stdout.write(text),
  });
  return exitCode;
}

/** How often each kind of thread has been given a CPU so far. */
function runsOf(pid: number): Map<string, number> {
  const runs = new Map<string, number>();
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${tid}`;
    const name = tid === String(pid) ? "main" : readFileSync(`${folder}/comm`, "utf8").trim();
    const count = Number(readFileSync(`${folder}/schedstat`, "utf8").split(" ")[2]);
    runs.set(name, (runs.get(name) ?? 0) + count);
  }
  return runs;
}

/** How often each thread's heap has been collected: main's, which is made first, and the queues'. */
function collections(): number[] {
  const counts = new Map<string, number>();
  const told = readFileSync(LOG, "utf8").matchAll(/\[GC<(\w+)>: (starting|START) /g);
  for (const [, heap = "", what] of told) {
    counts.set(heap, (counts.get(heap) ?? 0) + (what === "START" ? 1 : 0));
  }
  return [...counts.values()];
}

/** Pid of a server of disk 0 that tells of its collections. */
function serve(): number {
  writeFileSync(TELLING, `#!/bin/sh\nBUN_JSC_logGC=1 exec ${resolve(OURS)} "$@"\n`);
  chmodSync(TELLING, 0o755);
  const mode = values.batch ? ["--batch"] : [];
  sh(OURS, "add", "null", "-n0", `-q${QUEUES}`, "-d128", ...mode);
  const told = sh(OURS, "upgrade", "0", "--json", "--binary", TELLING);
  return (JSON.parse(told) as { serverPid: number }).serverPid;
}

async function inside(): Promise<number> {
  const pid = serve();
  const fio = Bun.spawn(
    `fio --name=soak --filename=/dev/ublkb0 --direct=1 --ioengine=libaio --size=64m --rw=randrw --bs=4k
      --iodepth=128 --numjobs=${QUEUES} --cpus_allowed=0,1 --cpus_allowed_policy=split --thread --group_reporting
      --norandommap --time_based --runtime=${minutes * 60} --output-format=json`.split(/\s+/),
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const output = new Response(fio.stdout).text();
  await Bun.sleep(SETTLE_MS);
  const before = runsOf(pid);
  let after = before;
  const rss: number[] = [];
  while (fio.exitCode === null) {
    rss.push(rssOf(pid));
    after = runsOf(pid);
    await Bun.sleep(LOOK_MS);
  }
  const [ofMain, ...ofQueues] = collections();
  const text = await output;
  const [job] = JSON.parse(text.slice(text.indexOf("{"))).jobs;
  sh(OURS, "del", "0");
  const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
  const threads = [...after].map(([name, count]) => `${name} ${count - (before.get(name) ?? 0)}`);
  console.log(`
Linux ${readFileSync("/proc/sys/kernel/osrelease", "utf8").trim()}, null${values.batch ? " --batch" : ""}, ${QUEUES} queues, depth 128, \
4k random reads and writes, ${minutes} minutes; memory and threads from the second minute on

| what | measured |
| --- | --- |
| requests | ${((job.read.total_ios + job.write.total_ios) / 1e6).toFixed(2)} million |
| errors | ${job.error} |
| RSS, first, least, most, last | ${[rss[0]!, Math.min(...rss), Math.max(...rss), rss.at(-1)!].map(mb).join(", ")} MB |
| collections: main's heap, the queues' | ${ofMain}; ${ofQueues.join(", ")} |
| times a thread was given a CPU | ${threads.join(", ")} |`);
  const hasGrown = Math.max(...rss) > rss[0]! * (1 + RSS_GROWN_MAX);
  // A heap that tells nothing, not even that it was made, is missing here.
  const isCalm = ofQueues.length === QUEUES && ofQueues.every((count) => count === 0);
  return job.error === 0 && fio.exitCode === 0 && !hasGrown && isCalm ? 0 : 1;
}

process.exit(await (positionals.length === 0 ? outside() : inside()));
