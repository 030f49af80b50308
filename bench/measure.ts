// In a guest: one run of fio on one disk, and what its server spent on it.

import { readdirSync, readFileSync } from "node:fs";

import { type Cell, nameOf } from "./matrix.ts";
import type { Measures, Sample } from "./plan.ts";
import { type Server, sh } from "./servers.ts";

const RW = { read: "randread", write: "randwrite", mixed: "randrw" } as const;
/** Requests that a server gets before it is measured: JavaScript is compiled while it runs, C was before. */
const WARM_IOS = { "ublk-bun": 60_000, kublk: 6000 } as const;

/** What fio has to know. */
export type Load = Pick<Cell, "block" | "direction" | "queues"> & { readonly depth: number };

interface Spent {
  /** Of the thread. */
  readonly name: string;
  readonly cpuNs: number;
  /** Clock ticks. */
  readonly user: number;
  readonly system: number;
  readonly switches: number;
}

/** What each thread of a process has had so far. */
function spentBy(pid: number): Map<string, Spent> {
  const threads = pid === 0 ? [] : readdirSync(`/proc/${pid}/task`);
  return new Map(threads.map((tid) => [tid, spentByThread(`/proc/${pid}/task/${tid}`)]));
}

function spentByThread(folder: string): Spent {
  const cpuNs = Number(readFileSync(`${folder}/schedstat`, "utf8").split(" ")[0]);
  const fields = readFileSync(`${folder}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  const status = readFileSync(`${folder}/status`, "utf8");
  const name = /^Name:\s+(.*)$/m.exec(status)![1]!;
  const counts = [...status.matchAll(/ctxt_switches:\s+(\d+)/g)];
  const switches = counts.reduce((sum, [, count]) => sum + Number(count), 0);
  return { name, cpuNs, user: Number(fields[11]), system: Number(fields[12]), switches };
}

/** Since `before`; a thread that has ended meanwhile has taken its share along. */
function since(before: ReadonlyMap<string, Spent>, pid: number): readonly Spent[] {
  return [...spentBy(pid)].map(([tid, { name, ...now }]) => {
    const then = before.get(tid);
    if (then === undefined) return { name, ...now };
    return {
      name,
      cpuNs: now.cpuNs - then.cpuNs,
      user: now.user - then.user,
      system: now.system - then.system,
      switches: now.switches - then.switches,
    };
  });
}

/** How often each thread of a process wakes up by itself in `ms`, a second; threads that do not are left out. */
export async function wakeUps(pid: number, ms: number): Promise<Readonly<Record<string, number>>> {
  const before = spentBy(pid);
  await Bun.sleep(ms);
  const found: Record<string, number> = {};
  for (const { name, switches } of since(before, pid)) {
    if (switches > 0) found[name] = (found[name] ?? 0) + (switches / ms) * 1000;
  }
  return found;
}

export function rssOf(pid: number): number {
  if (pid === 0) return 0;
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) * 1024;
}

/** What fio says of its one job. */
export function fio(path: string, cell: Load, ...words: string[]) {
  const fixed = `fio --name=bench --filename=${path} --direct=1 --ioengine=libaio --size=64m
    --rw=${RW[cell.direction]} --bs=${cell.block} --iodepth=${cell.depth} --numjobs=${cell.queues}
    --thread --group_reporting --norandommap --randrepeat=0 --percentile_list=50:99:99.9 --output-format=json`;
  const spread = cell.queues === 1 ? [] : ["--cpus_allowed=0,1", "--cpus_allowed_policy=split"];
  const text = sh(...fixed.split(/\s+/), ...spread, ...words);
  return JSON.parse(text.slice(text.indexOf("{"))).jobs[0];
}

/** Lets a server see every path that the cell takes. */
export function warm({ name, path }: Server, cell: Cell): void {
  if (name !== "ublk-bun" && name !== "kublk") return;
  const load = { ...cell, block: "4k", depth: 128 } as const;
  fio(path, load, "--time_based", "--runtime=30", `--number_ios=${WARM_IOS[name] / cell.queues}`);
}

export function sample(server: Server, cell: Cell, round: number, seconds: number): Sample {
  const measures = measure(server, cell, "--time_based", `--runtime=${seconds}`);
  return { kind: "sample", cell: nameOf(cell), server: server.name, round, ...measures };
}

/** One run of fio, and what the server spent on it. */
export function measure(
  { path, pid }: Pick<Server, "path" | "pid">,
  cell: Load,
  ...words: string[]
): Measures {
  const before = spentBy(pid);
  const job = fio(path, cell, ...words);
  const spent = since(before, pid);
  const sum = (what: Exclude<keyof Spent, "name">) =>
    spent.reduce((all, thread) => all + thread[what], 0);
  const main = cell.direction === "write" ? job.write : job.read;
  const ios = job.read.total_ios + job.write.total_ios;
  const [user, system] = [sum("user"), sum("system")];
  const us = (percentile: string) => main.clat_ns.percentile[percentile] / 1000;
  return {
    iops: job.read.iops + job.write.iops,
    p50Us: us("50.000000"),
    p99Us: us("99.000000"),
    p999Us: us("99.900000"),
    cpuNsPerIo: sum("cpuNs") / ios,
    userShare: user + system === 0 ? 0 : user / (user + system),
    switchesPerIo: sum("switches") / ios,
    rssBytes: rssOf(pid),
  };
}
