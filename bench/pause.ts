// How long a disk pauses: from kill -9 of its server to the first read served by the next one, by `recover`
// and by a standby, and in an `upgrade`; beside the kernel's own test server (kublk) killed and recovered by
// a script, alternating.
//
//   bun bench/pause.ts [--kernel 6.12|7.3] [--rounds N] [--before PATH]      boots a guest, prints a table
//
// --before: another build of this program, whose `recover` is measured as well.

import { constants, existsSync, readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

import { mapMemory } from "../src/ffi/memory.ts";
import { runGuest } from "../test/support/guest/guest.ts";
import { KERNELS } from "../test/support/guest/kernel.ts";
import { buildKublk } from "../test/support/peer.ts";

const { values, positionals } = parseArgs({
  options: {
    kernel: { type: "string", default: "7.3" },
    rounds: { type: "string", default: "20" },
    before: { type: "string" },
  },
  allowPositionals: true,
});
const BLOCK_BYTES = 4096;
const OURS = "dist/ublk-bun";
/** What `watch` watches must not be what the others recover. */
const WATCHED_DIR = "/run/ublk-bun-watched";
/** Both serve a null disk of two queues: nothing but the change of servers is measured. */
const DISK = ["-q", "2", "-d", "128"];

/** A way to change a disk's server; `change` begins it and returns when it has ended. */
interface Way {
  readonly name: string;
  readonly path: string;
  readonly kills: boolean;
  readonly change: () => Promise<unknown>;
  readonly pid: () => number;
}

async function outside(): Promise<number> {
  const kernel = KERNELS.find((name) => name === values.kernel);
  if (kernel === undefined) throw new Error(`--kernel is one of ${KERNELS.join(", ")}`);
  const kublk = await buildKublk();
  const before = values.before === undefined ? "" : `--before ${resolve(values.before)}`;
  const { exitCode } = await runGuest({
    kernel,
    command: `node_modules/.bin/bun bench/pause.ts --rounds ${values.rounds} ${before} ${kublk}`,
    timeoutMs: 3_000_000,
    parallel: true,
    onOutput: (text) => process.stdout.write(text),
  });
  return exitCode;
}

async function sh(...command: string[]): Promise<string> {
  const child = Bun.spawn(command, { stdio: ["ignore", "pipe", "pipe"] });
  const output = Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  if ((await child.exited) === 0) return (await output)[0];
  throw new Error(`${command.join(" ")}: ${child.exitCode}\n${(await output).join("")}`);
}

function serverOf(path: string): number {
  const char = path.replace("ublkb", "ublkc");
  const { stdout } = Bun.spawnSync([
    "sh",
    "-c",
    `ls -l /proc/[0-9]*/fd 2>/dev/null | awk '
    /^\\/proc/ { split($1, part, "/") } / -> ${char.replaceAll("/", "\\/")}$/ { print part[3]; exit }'`,
  ]);
  return Number(stdout.toString());
}

/** Direct reads, one after the other, until `over`; the longest that one took, in ms. */
async function longestRead(path: string, over: Promise<unknown>): Promise<number> {
  const file = await open(path, constants.O_RDONLY | constants.O_DIRECT);
  const { bytes } = mapMemory(BLOCK_BYTES);
  const state = { isOver: false };
  void over.finally(() => (state.isOver = true));
  let longest = 0;
  while (!state.isOver) {
    const began = performance.now();
    await file.read(bytes, 0, BLOCK_BYTES, 0);
    longest = Math.max(longest, performance.now() - began);
  }
  await file.close();
  return longest;
}

/** One change of servers, as somebody sees it who reads all the time. */
async function pauseOf({ path, kills, change, pid }: Way): Promise<number> {
  if (!kills) return longestRead(path, change());
  const file = await open(path, constants.O_RDONLY | constants.O_DIRECT);
  const { bytes } = mapMemory(BLOCK_BYTES);
  const victim = pid();
  const began = performance.now();
  process.kill(victim, "SIGKILL");
  const read = file.read(bytes, 0, BLOCK_BYTES, 0).then(() => performance.now() - began);
  await Promise.all([read, change()]);
  await file.close();
  return read;
}

/** `watch --standby`, which says on its stderr when there is a new one. */
class Watch {
  readonly #process = Bun.spawn(
    [
      OURS,
      "watch",
      "--standby",
      "--run-dir",
      WATCHED_DIR,
      "--max-restarts",
      "1000",
      "--backoff=1ms",
    ],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  #standby = 0;
  #told = Promise.withResolvers<void>();

  constructor() {
    void this.#listen();
  }

  /** Memory of the one that is ready, as the kernel tells it. */
  get standbyMemory(): string {
    const status = readFileSync(`/proc/${this.#standby}/status`, "utf8");
    return [...status.matchAll(/^(?:VmRSS|RssAnon):\s+\d+ kB/gm)].join(", ");
  }

  /** Resolves when the next one is ready. */
  async next(): Promise<void> {
    await this.#told.promise;
    this.#told = Promise.withResolvers();
  }

  async end(): Promise<void> {
    this.#process.kill();
    await this.#process.exited;
  }

  async #listen(): Promise<void> {
    let text = "";
    for await (const chunk of this.#process.stderr) {
      text += new TextDecoder().decode(chunk);
      const pid = Number([...text.matchAll(/has a standby, pid (\d+)\n/g)].at(-1)?.[1] ?? 0);
      if (pid === this.#standby) continue;
      this.#standby = pid;
      this.#told.resolve();
    }
  }
}

async function inside(kublk: string): Promise<number> {
  await sh(OURS, "add", "null", "-n", "0", ...DISK);
  await sh(OURS, "add", "null", "-n", "2", ...DISK, "--run-dir", WATCHED_DIR);
  const watch = new Watch();
  await watch.next();
  const theirs = ["-t", "null", "-n", "1", ...DISK, "-r", "1", "-i", "1"];
  await sh(kublk, "add", ...theirs);
  // It is refused while the killed server is still on its way out.
  const script = `until ${kublk} recover ${theirs.join(" ")}; do :; done`;
  const recover = (name: string, program: string): Way => ({
    name,
    path: "/dev/ublkb0",
    kills: true,
    change: () => sh(program, "recover", "0"),
    pid: () => serverOf("/dev/ublkb0"),
  });
  const ways: readonly Way[] = [
    recover("recover", OURS),
    ...(values.before === undefined ? [] : [recover("recover before", values.before)]),
    {
      name: "standby",
      path: "/dev/ublkb2",
      kills: true,
      change: () => watch.next(),
      pid: () => serverOf("/dev/ublkb2"),
    },
    {
      name: "upgrade",
      path: "/dev/ublkb0",
      kills: false,
      change: () => sh(OURS, "upgrade", "0"),
      pid: () => -1,
    },
    {
      name: "kublk",
      path: "/dev/ublkb1",
      kills: true,
      change: () => sh("sh", "-c", script),
      pid: () => serverOf("/dev/ublkb1"),
    },
  ];
  const pauses = new Map(ways.map(({ name }) => [name, [] as number[]]));
  const rounds = Number(values.rounds);
  // The first round warms everybody's files.
  for (let round = 0; round <= rounds; round++) {
    for (const way of ways) {
      const milliseconds = await pauseOf(way);
      if (round > 0) pauses.get(way.name)!.push(milliseconds);
    }
  }
  const memory = watch.standbyMemory;
  await watch.end();
  await sh(OURS, "del", "0");
  await sh(OURS, "del", "2", "--run-dir", WATCHED_DIR);
  await sh(kublk, "del", "-n", "1");
  const sorted = (name: string) => pauses.get(name)!.toSorted((a, b) => a - b);
  const median = (name: string) => sorted(name)[rounds >> 1]!;
  const kernel = (await Bun.file("/proc/sys/kernel/osrelease").text()).trim();
  console.log(`\nLinux ${kernel}, ${rounds} rounds, alternating\n`);
  console.log(
    "| how | median, ms | longest, ms | median, times kublk |\n| --- | --- | --- | --- |",
  );
  for (const { name } of ways) {
    const times = (median(name) / median("kublk")).toFixed(2);
    console.log(
      `| ${name} | ${Math.round(median(name))} | ${Math.round(sorted(name).at(-1)!)} | ${times} |`,
    );
  }
  console.log(`\nA standby's memory: ${memory}`);
  return 0;
}

const inGuest = existsSync("/dev/ublk-control");
process.exit(await (inGuest ? inside(positionals[0] ?? "") : outside()));
