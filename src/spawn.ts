// Starts Workers: the only place that names worker.ts, script-worker.ts and load-watch.ts, their neighbour on purpose
// (in the compiled executable `import.meta.url` is the entry's, not this module's).

/** Starts one Worker; what it says and how it ends is for the caller to listen to. */
export function spawnWorker(name: string): Worker {
  return new Worker(new URL("./worker.ts", import.meta.url).href, { name });
}

/** The same for a thread that serves a target's file. */
export function spawnScriptWorker(name: string): Worker {
  return new Worker(new URL("./script-worker.ts", import.meta.url).href, { name });
}

/** The same for a thread that watches a person's file being loaded. */
export function spawnLoadWatch(): Worker {
  return new Worker(new URL("./load-watch.ts", import.meta.url).href, { name: "load-watch" });
}
