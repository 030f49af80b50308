// Starts Workers: the only place that names worker.ts, script-worker.ts and load-watch.ts, their neighbour on purpose
// (in the compiled executable `import.meta.url` is the entry's, not this module's).

import { tryWrite } from "./write.ts";

const FATAL_EXIT = 70;

/** Started, and not needed yet. */
const ahead: Worker[] = [];

/** Thrown here, an exception would only be printed, and whoever needs the thread wait for ever. */
const onEarlyEnd = () => {
  tryWrite(2, "A thread ends before it is needed\n");
  // Loaded only now: the threads are to start before anything else.
  void import("./ffi/libc.ts").then(({ _exit }) => _exit(FATAL_EXIT));
};

/** Starts Workers that `spawnWorker` gives out later: they load their code while the program loads its own. */
export function spawnAhead(count: number): void {
  for (let queueId = 0; queueId < count; queueId++) {
    const worker = startWorker(`queue ${queueId}`);
    worker.onerror = ({ message }) => {
      throw new Error(`A thread does not start: ${message}`);
    };
    worker.addEventListener("close", onEarlyEnd);
    ahead.push(worker);
  }
}

/** Starts one Worker; what it says and how it ends is for the caller to listen to. */
export function spawnWorker(name: string): Worker {
  const worker = ahead.shift();
  worker?.removeEventListener("close", onEarlyEnd);
  return worker ?? startWorker(name);
}

function startWorker(name: string): Worker {
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
