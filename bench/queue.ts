// Where a request's time goes on our side: CPU of the ring, the queue and the null target without a driver,
// on this machine. How much of it is user time comes from the kernel's ticks: roughly. Prints a table.
//
//   bun bench/queue.ts [--rounds N]

import { parseArgs } from "node:util";

import { nullTarget } from "../src/targets/null.ts";
import { EndlessQueue } from "../test/support/endless-queue.ts";
import { median } from "./results.ts";

const WARM_UP = 500_000;
const REQUESTS = 200_000;

const { values } = parseArgs({ options: { rounds: { type: "string", default: "15" } } });

const spec = { sizeBytes: 1024 ** 3 };
const context = { deviceId: 0, identity: "", isNew: true, note: () => {} };
const backing = await nullTarget.open(spec, context);

/** CPU nanoseconds a request, while `count` are served. */
function cost(endless: EndlessQueue, count: number): { user: number; system: number } {
  const before = process.cpuUsage();
  endless.serve(count);
  const { user, system } = process.cpuUsage(before);
  return { user: (user * 1000) / count, system: (system * 1000) / count };
}

console.log("| commands | depth | CPU ns | of it user |\n|---|--:|--:|--:|");
for (const isBatch of [false, true]) {
  for (const depth of [1, 16, 128]) {
    using endless = new EndlessQueue({ target: nullTarget, spec, backing, depth, isBatch });
    endless.serve(WARM_UP);
    const all = Array.from({ length: Number(values.rounds) }, () => cost(endless, REQUESTS));
    const cpu = median(all.map(({ user, system }) => user + system));
    const user = median(all.map((each) => each.user)) / cpu;
    const cells = [
      isBatch ? "batch" : "single",
      depth,
      cpu.toFixed(0),
      `${(user * 100).toFixed(0)} %`,
    ];
    console.log(`| ${cells.join(" | ")} |`);
  }
}
