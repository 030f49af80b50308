// Starts queue Workers: the only place that names worker.ts and script-worker.ts, their neighbour on purpose
// (in the compiled executable `import.meta.url` is the entry's, not this module's).

/** Started ahead, for whoever comes first. */
const waiting: Worker[] = [];

/** One that is lost while nobody listens to it: the process must not wait for it. */
const onLost = () => process.exit(70);

/** Starts Workers before it is known what they are for: they load meanwhile. */
export function startWorkers(count: number): void {
  for (let queueId = 0; queueId < count; queueId++) {
    const worker = startWorker(`queue ${queueId}`);
    worker.addEventListener("error", onLost);
    worker.addEventListener("close", onLost);
    waiting.push(worker);
  }
}

/** Starts one Worker, or takes one that waits; what it says and how it ends is for the caller to listen to. */
export function spawnWorker(name: string): Worker {
  const worker = waiting.shift();
  worker?.removeEventListener("error", onLost);
  worker?.removeEventListener("close", onLost);
  return worker ?? startWorker(name);
}

/** The same for a thread that serves a target's file. */
export function spawnScriptWorker(name: string): Worker {
  return new Worker(new URL("./script-worker.ts", import.meta.url).href, { name });
}

function startWorker(name: string): Worker {
  return new Worker(new URL("./worker.ts", import.meta.url).href, { name });
}
