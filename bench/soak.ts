// Ten minutes at full load: memory stays, nothing but the queues' threads works, no request fails.
//
//   bun bench/soak.ts [--kernel 6.12|7.3] [--minutes N]      boots a guest, prints a table

import { readdirSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { runGuest } from "../test/support/guest/guest.ts";
import { KERNELS } from "../test/support/guest/kernel.ts";
import { rssOf } from "./measure.ts";
import { sh } from "./servers.ts";

const { values, positionals } = parseArgs({
  options: {
    kernel: { type: "string", default: "7.3" },
    minutes: { type: "string", default: "10" },
  },
  allowPositionals: true,
});
const minutes = Number(values.minutes);
const OURS = "dist/ublk-bun";
/** JavaScript is compiled, memory of the start given back. */
const SETTLE_MS = 60_000;
const LOOK_MS = 5000;

async function outside(): Promise<number> {
  const kernel = KERNELS.find((name) => name === values.kernel);
  if (kernel === undefined) throw new Error(`--kernel is one of ${KERNELS.join(", ")}`);
  const { exitCode } = await runGuest({
    kernel,
    command: `node_modules/.bin/bun bench/soak.ts --minutes ${minutes} inside`,
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

async function inside(): Promise<number> {
  const pid = Number(/daemon pid (\d+)/.exec(sh(OURS, "add", "null", "-n0", "-q2", "-d128"))?.[1]);
  const fio = Bun.spawn(
    `fio --name=soak --filename=/dev/ublkb0 --direct=1 --ioengine=libaio --size=64m --rw=randrw --bs=4k
      --iodepth=128 --numjobs=2 --cpus_allowed=0,1 --cpus_allowed_policy=split --thread --group_reporting
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
  const text = await output;
  const [job] = JSON.parse(text.slice(text.indexOf("{"))).jobs;
  sh(OURS, "del", "0");
  const mb = (bytes: number) => (bytes / 1e6).toFixed(1);
  const threads = [...after].map(([name, count]) => `${name} ${count - (before.get(name) ?? 0)}`);
  console.log(`
Linux ${readFileSync("/proc/sys/kernel/osrelease", "utf8").trim()}, null, 2 queues, depth 128, \
4k random reads and writes, ${minutes} minutes; memory and threads from the second minute on

| what | measured |
| --- | --- |
| requests | ${((job.read.total_ios + job.write.total_ios) / 1e6).toFixed(2)} million |
| errors | ${job.error} |
| RSS, first, least, most, last | ${[rss[0]!, Math.min(...rss), Math.max(...rss), rss.at(-1)!].map(mb).join(", ")} MB |
| times a thread was given a CPU | ${threads.join(", ")} |`);
  return job.error === 0 && fio.exitCode === 0 ? 0 : 1;
}

process.exit(await (positionals.length === 0 ? outside() : inside()));
