// In a guest: our null disk beside the kernel's own test server (kublk), alternating, fio on each.
// Prints one JSON line a cell and one for the idle daemon; bench/main.ts makes the tables.
//
//   bun bench/null.ts KUBLK [ROUNDS]

import { readdirSync, readFileSync } from "node:fs";

const [kublk = "", roundsWord = "7"] = process.argv.slice(2);
const rounds = Number(roundsWord);
const ours = process.env["UBLK_BUN_PROGRAM"] ?? "dist/ublk-bun";
/** Enough for about a second in an emulated guest. */
const IOS: Readonly<Record<number, number>> = { 1: 3000, 16: 10_000, 128: 16_000 };

interface Server {
  readonly name: "ublk-bun" | "kublk";
  readonly path: string;
  readonly pid: number;
}

interface Sample {
  readonly iops: number;
  readonly cpuNsPerIo: number;
  readonly userShare: number;
}

function sh(...command: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(command);
  if (exitCode === 0) return stdout.toString();
  throw new Error(`${command.join(" ")}: exit ${exitCode}\n${stdout}${stderr}`);
}

const pidIn = (text: string) => Number(/daemon pid (\d+)/.exec(text)?.[1]);

/** Nanoseconds of CPU that all threads of a process have had; user and system apart, in ticks. */
function cpuOf(pid: number) {
  let ns = 0;
  let user = 0;
  let system = 0;
  for (const tid of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${tid}`;
    ns += Number(readFileSync(`${folder}/schedstat`, "utf8").split(" ")[0]);
    const fields = readFileSync(`${folder}/stat`, "utf8")
      .replace(/^.*\) /s, "")
      .split(" ");
    user += Number(fields[11]);
    system += Number(fields[12]);
  }
  return { ns, user, system };
}

/** Requests that both servers get first: JavaScript is compiled while it runs. */
const WARM_IOS = 60_000;

function measure(
  { path, pid }: Server,
  depth: number,
  queues: number,
  number = IOS[depth]!,
): Sample {
  const before = cpuOf(pid);
  const text = sh(
    "fio",
    "--name=read",
    `--filename=${path}`,
    "--rw=randread",
    "--bs=4k",
    "--direct=1",
    "--ioengine=libaio",
    `--iodepth=${depth}`,
    `--numjobs=${queues}`,
    "--group_reporting",
    "--size=1g",
    `--number_ios=${Math.floor(number / queues)}`,
    "--output-format=json",
  );
  const after = cpuOf(pid);
  const { jobs } = JSON.parse(text.slice(text.indexOf("{")));
  const { iops, total_ios: ios } = jobs[0].read;
  const ticks = after.user - before.user + after.system - before.system;
  return {
    iops,
    cpuNsPerIo: (after.ns - before.ns) / ios,
    userShare: ticks === 0 ? 0 : (after.user - before.user) / ticks,
  };
}

function startBoth(queues: number): Server[] {
  const q = String(queues);
  const mine = sh(ours, "add", "--target", "null", "-n", "0", "-q", q, "-d", "128");
  const theirs = sh(kublk, "add", "-t", "null", "-n", "1", "-q", q, "-d", "128");
  return [
    { name: "ublk-bun", path: "/dev/ublkb0", pid: pidIn(mine) },
    { name: "kublk", path: "/dev/ublkb1", pid: pidIn(theirs) },
  ];
}

function stopBoth(): void {
  sh(ours, "del", "0");
  sh(kublk, "del", "-n", "1");
}

function idleRssBytes(pid: number): number {
  const kib = /^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
  return Number(kib) * 1024;
}

for (const queues of [1, 2]) {
  const servers = startBoth(queues);
  if (queues === 2) {
    // Allocators settle after the start.
    await Bun.sleep(5000);
    console.log(JSON.stringify({ kind: "idle", queues, rssBytes: idleRssBytes(servers[0]!.pid) }));
  }
  for (const server of servers) measure(server, 128, queues, WARM_IOS);
  for (const depth of [1, 16, 128]) {
    const samples: Record<string, Sample[]> = { "ublk-bun": [], kublk: [] };
    for (const server of servers) measure(server, depth, queues); // warm
    for (let round = 0; round < rounds; round++) {
      const order = round % 2 === 0 ? servers : servers.toReversed();
      for (const server of order) samples[server.name]!.push(measure(server, depth, queues));
    }
    console.log(JSON.stringify({ kind: "cell", queues, depth, samples }));
  }
  stopBoth();
}
