// In a guest: works through a plan, servers side by side and taking turns; a line of JSON a figure.
//
//   bun bench/guest.ts PLAN.json

import { existsSync, readFileSync } from "node:fs";

import { messageOf } from "../src/errors.ts";
import { type Cell, nameOf, type Setup } from "./matrix.ts";
import { rssOf, sample, wakeUps, warm } from "./measure.ts";
import type { Figure, Plan } from "./plan.ts";
import {
  makeRamDisks,
  ours,
  recoverOurs,
  recoverTheirs,
  type Server,
  startAll,
  theirs,
} from "./servers.ts";

const plan = JSON.parse(readFileSync(process.argv[2]!, "utf8")) as Plan;
const IDLE_SETTLE_MS = 5000;
const IDLE_MS = 5000;
const START_ROUNDS = 5;
const NULL: Setup = { target: "null", mode: "copy", queues: 1 };

const tell = (figure: Figure) => console.log(JSON.stringify(figure));
const turns = <T>(all: readonly T[], round: number) => (round % 2 === 0 ? all : all.toReversed());

/** How long a command takes that ends when its disk can be used. */
function timed(begin: () => void): number {
  const began = performance.now();
  begin();
  return performance.now() - began;
}

async function killed({ pid }: Server): Promise<void> {
  process.kill(pid, "SIGKILL");
  while (existsSync(`/proc/${pid}`)) await Bun.sleep(5);
}

/** Add, kill -9, recover, of both in turn. */
async function starts(): Promise<void> {
  const both = [
    { name: "ublk-bun", start: () => ours(NULL), recover: recoverOurs },
    {
      name: "kublk",
      start: () => theirs(NULL, plan.kublk),
      recover: () => recoverTheirs(plan.kublk),
    },
  ] as const;
  for (let round = 0; round < START_ROUNDS; round++) {
    for (const { name, start, recover } of turns(both, round)) {
      let server: Server | undefined;
      const addMs = timed(() => (server = start()));
      await killed(server!);
      const recoverMs = timed(recover);
      tell({ kind: "start", server: name, addMs, recoverMs });
      server!.stop();
    }
  }
}

/** Both served and left alone. */
async function idling(): Promise<void> {
  const servers = [ours(NULL), theirs(NULL, plan.kublk)];
  await Bun.sleep(IDLE_SETTLE_MS);
  const found = await Promise.all(servers.map(({ pid }) => wakeUps(pid, IDLE_MS)));
  servers.forEach(({ name, pid, stop }, i) => {
    const wakeUpsPerSecond = found[i]!;
    tell({ kind: "idle", server: name as "kublk", rssBytes: rssOf(pid), wakeUpsPerSecond });
    stop();
  });
}

function setUps(): Map<string, Cell[]> {
  return Map.groupBy(plan.cells, ({ target, mode, queues }) => `${target} ${mode} ${queues}`);
}

const isLate = () => performance.now() > plan.lastBeginMs;

/** Every cell of one setup; what went wrong with one must not cost the others. */
function measureAll(cells: readonly Cell[]): void {
  const servers = startAll(cells[0]!, plan.kublk);
  try {
    for (const server of servers) warm(server, cells[0]!);
    for (const cell of cells) {
      console.error(`bench: ${nameOf(cell)}`);
      for (let round = 0; round < plan.rounds && !isLate(); round++) {
        for (const server of turns(servers, round)) tell(sample(server, cell, round, plan.seconds));
      }
    }
  } finally {
    for (const server of servers) server.stop();
  }
}

async function main(): Promise<void> {
  if (plan.hasLife) {
    await starts();
    await idling();
  }
  if (plan.cells.some(({ target }) => target !== "null")) makeRamDisks();
  for (const cells of setUps().values()) {
    if (isLate()) return;
    try {
      measureAll(cells);
    } catch (error) {
      console.error(`bench: ${messageOf(error)}`);
      process.exitCode = 1;
    }
  }
}

await main();
