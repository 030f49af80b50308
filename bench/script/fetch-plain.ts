// The fetches of fetch.ts without a disk: asked for COUNT of them, DEPTH at once, it says how many a
// second that was.
//
//   bun bench/script/fetch-plain.ts URL          asked through Bun.spawn's `ipc`: [DEPTH, COUNT]

const url = process.argv[2]!;
const into = new Uint8Array(4096);

async function fetches(left: number): Promise<void> {
  while (left-- > 0) into.set(await (await fetch(url)).bytes());
}

process.on("message", async ([depth, count]: [number, number]) => {
  const began = performance.now();
  await Promise.all(Array.from({ length: depth }, () => fetches(count / depth)));
  process.send!((count / (performance.now() - began)) * 1000);
});
