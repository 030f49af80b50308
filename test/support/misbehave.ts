// The program with a main thread that misbehaves on a signal: what no target can do to its server.
//
// Run by bun with the program's own words. Whatever it starts, the daemon too, is this file again.

const workers: Worker[] = [];
const RealWorker = globalThis.Worker;

globalThis.Worker = class extends RealWorker {
  constructor(...words: ConstructorParameters<typeof RealWorker>) {
    super(...words);
    workers.push(this);
  }
};

process.on("SIGUSR1", () => workers[0]?.terminate());
process.on("SIGUSR2", () => {
  throw new Error("misbehave: an uncaught error");
});
process.on("SIGWINCH", () => {
  void Promise.reject(new Error("misbehave: an unhandled rejection"));
});
process.on("SIGURG", () => {
  // Busy for ever, as far as anybody can see.
  for (let i = 0; ; i++) if (i < 0) return;
});

await import("../../src/main.ts");
