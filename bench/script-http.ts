// In a guest: a disk that fetches every request from a web server which takes its time, beside as
// many fetches of a plain script; one at once, and 64.

import { measure } from "./measure.ts";
import { show } from "./page.ts";
import { median, ratioOf } from "./results.ts";
import { OURS, pidIn, sh } from "./servers.ts";

type Depth = 1 | 64;
type Fetch = (depth: Depth, count: number) => number | Promise<number>;

/** Of each sample: as long as 40 answers take. */
const REQUESTS = { 1: 40, 64: 2560 } as const;
/** JavaScript is compiled while it runs. */
const WARM_REQUESTS = 12_800;
const FIO = { block: "4k", direction: "read", queues: 1 } as const;
const HEAD = `| what | at once | answers a second | disk at depth 64 to it |
| --- | --: | --: | --- |`;

/** A plain script's fetches a second. */
function startPlain(url: string): { readonly fetch: Fetch } & Disposable {
  let answered: (perSecond: number) => void;
  const child = Bun.spawn([process.execPath, "bench/script/fetch-plain.ts", url], {
    stdio: ["ignore", "inherit", "inherit"],
    ipc: (perSecond: number) => answered(perSecond),
  });
  const fetch: Fetch = (depth, count) =>
    new Promise((resolve) => {
      answered = resolve;
      child.send([depth, count]);
    });
  return { fetch, [Symbol.dispose]: () => child.kill() };
}

/** A disk's reads a second. */
function startDisk(url: string): { readonly fetch: Fetch } & Disposable {
  const words = ["-n", "0", "-q", "1", "-d", "128", "--param", `url=${url}`];
  const pid = pidIn(sh(OURS, "add", "./bench/script/fetch.ts", ...words));
  const fetch: Fetch = (depth, count) =>
    measure({ path: "/dev/ublkb0", pid }, { ...FIO, depth }, `--number_ios=${count}`).iops;
  return { fetch, [Symbol.dispose]: () => void sh(OURS, "del", "0") };
}

/** A table of answers a second, each of which takes the server `answerMs`. */
export async function fetching(rounds: number, answerMs: number): Promise<string> {
  const words = [process.execPath, "bench/script/web-server.ts", String(answerMs)];
  await using server = Bun.spawn(words, { stdout: "pipe" });
  const { value } = await server.stdout.getReader().read();
  const url = new TextDecoder().decode(value).trim();
  using disk = startDisk(url);
  using plain = startPlain(url);
  const samples = [
    { name: "disk", of: disk, depth: 1, found: [] as number[] },
    { name: "disk", of: disk, depth: 64, found: [] as number[] },
    { name: "plain script", of: plain, depth: 1, found: [] as number[] },
    { name: "plain script", of: plain, depth: 64, found: [] as number[] },
  ] as const;
  for (const { fetch } of [disk, plain]) await fetch(64, WARM_REQUESTS);
  for (let round = 0; round < rounds; round++) {
    for (const { of, depth, found } of round % 2 === 0 ? samples : samples.toReversed()) {
      found.push(await of.fetch(depth, REQUESTS[depth]));
    }
  }
  const deep = samples[1].found;
  const rows = samples.map(
    ({ name, depth, found }) =>
      `| ${name} | ${depth} | ${median(found).toFixed(1)} | ${show(ratioOf(deep, found))} |`,
  );
  return [HEAD, ...rows].join("\n");
}
