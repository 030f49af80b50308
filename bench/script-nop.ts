// In a guest: no-op disks of ours and of nbdkit's plugins, one queue each, read in turns.

import { existsSync } from "node:fs";

import { type Load, measure } from "./measure.ts";
import { show } from "./page.ts";
import type { Measures } from "./plan.ts";
import { median, ratioOf } from "./results.ts";
import { OURS, pidIn, sh } from "./servers.ts";

const DEPTHS = [1, 128] as const;
const SECONDS = "2";
const READS = { block: "4k", direction: "read", queues: 1 } as const;
const HEAD = `| disk | depth | IOPS | CPU µs per I/O | IOPS, ours with a promise to it |
| --- | --: | --: | --: | --- |`;

interface Disk {
  readonly name: string;
  readonly path: string;
  readonly pid: number;
  /** Requests before it is measured: JavaScript is compiled while it runs. */
  readonly warmIos: number;
  stop(): void;
}

function ours(name: string, id: number, ...words: string[]): Disk {
  const text = sh(OURS, "add", ...words, "-n", String(id), "-q", "1", "-d", "128");
  const pid = pidIn(text);
  const stop = () => void sh(OURS, "del", String(id));
  return { name, path: `/dev/ublkb${id}`, pid, warmIos: 60_000, stop };
}

async function nbdkit(
  name: string,
  id: number,
  warmIos: number,
  ...words: string[]
): Promise<Disk> {
  const [socket, path] = [`/tmp/nbdkit-${id}`, `/dev/nbd${id}`];
  const server = Bun.spawn(["nbdkit", "--foreground", "--unix", socket, ...words], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  while (!existsSync(socket)) await Bun.sleep(10);
  sh("/sbin/nbd-client", "-unix", socket, path, "-block-size", "4096");
  const stop = () => {
    sh("/sbin/nbd-client", "-d", path);
    server.kill();
  };
  return { name, path, pid: server.pid, warmIos, stop };
}

async function startAll(): Promise<Disk[]> {
  sh("/sbin/modprobe", "nbd", "nbds_max=3");
  return [
    ours("ours, a promise", 0, "./bench/script/nop.ts"),
    ours("ours, no promise", 1, "./bench/script/nop.ts", "--param=answer=sync"),
    ours("ours, RingHandler", 2, "./bench/script/nop-ring.ts"),
    await nbdkit("nbdkit, C (its null plugin)", 0, 6000, "null", "size=1G"),
    await nbdkit("nbdkit, Python", 1, 6000, "python", "bench/script/nop.py"),
    await nbdkit("nbdkit, sh", 2, 100, "sh", "bench/script/nop.sh"),
  ];
}

/** A table: IOPS and the server's CPU of each disk at each depth, and the first one's IOPS to it. */
export async function noOps(rounds: number): Promise<string> {
  const disks = await startAll();
  const found = new Map<string, Measures[]>();
  try {
    for (const disk of disks) {
      measure(
        disk,
        { ...READS, depth: 128 },
        "--time_based",
        "--runtime=30",
        `--number_ios=${disk.warmIos}`,
      );
    }
    for (let round = 0; round < rounds; round++) {
      for (const depth of DEPTHS) {
        for (const disk of round % 2 === 0 ? disks : disks.toReversed()) {
          const load: Load = { ...READS, depth };
          const key = `${disk.name} ${depth}`;
          const measures = measure(disk, load, "--time_based", `--runtime=${SECONDS}`);
          found.set(key, [...(found.get(key) ?? []), measures]);
        }
      }
    }
  } finally {
    for (const { stop } of disks) stop();
  }
  const [first] = disks;
  const rows = disks.flatMap(({ name }) =>
    DEPTHS.map((depth) => {
      const theirs = found.get(`${name} ${depth}`)!;
      const iops = theirs.map((each) => each.iops);
      const cells = [
        name,
        depth,
        median(iops).toFixed(0),
        (median(theirs.map(({ cpuNsPerIo }) => cpuNsPerIo)) / 1000).toFixed(1),
        show(
          ratioOf(
            found.get(`${first!.name} ${depth}`)!.map((each) => each.iops),
            iops,
          ),
        ),
      ];
      return `| ${cells.join(" | ")} |`;
    }),
  );
  return [HEAD, ...rows].join("\n");
}
