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
  readonly cpuNs: number;
  /** Clock ticks. */
  readonly user: number;
  readonly system: number;
  readonly switches: number;
}

/** What all threads of a process have had so far. */
function spentBy(pid: number): Spent {
  let [cpuNs, user, system, switches] = [0, 0, 0, 0];
  for (const tid of pid === 0 ? [] : readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${tid}`;
    cpuNs += Number(readFileSync(`${folder}/schedstat`, "utf8").split(" ")[0]);
    const fields = readFileSync(`${folder}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    user += Number(fields[11]);
    system += Number(fields[12]);
    const status = readFileSync(`${folder}/status`, "utf8");
    for (const [, count] of status.matchAll(/ctxt_switches:\s+(\d+)/g)) switches += Number(count);
  }
  return { cpuNs, user, system, switches };
}

export const switchesOf = (pid: number): number => spentBy(pid).switches;

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
  const after = spentBy(pid);
  const main = cell.direction === "write" ? job.write : job.read;
  const ios = job.read.total_ios + job.write.total_ios;
  const [user, system] = [after.user - before.user, after.system - before.system];
  const us = (percentile: string) => main.clat_ns.percentile[percentile] / 1000;
  return {
    iops: job.read.iops + job.write.iops,
    p50Us: us("50.000000"),
    p99Us: us("99.000000"),
    p999Us: us("99.900000"),
    cpuNsPerIo: (after.cpuNs - before.cpuNs) / ios,
    userShare: user + system === 0 ? 0 : user / (user + system),
    switchesPerIo: (after.switches - before.switches) / ios,
    rssBytes: rssOf(pid),
  };
}
