// recover's server, started ahead: while the command loads and looks whether the device may be recovered
// at all, the process that is to serve it loads, too. It touches nothing before it is given its job.

import { resolve } from "node:path";

import { AHEAD, type RecoverJob } from "./job.ts";
import { prepareDaemonParent } from "./namespace.ts";
import { peek } from "./processes.ts";
import { startDaemon, type Started } from "./start.ts";
import { type DeviceLock, RUN_DIR, Store } from "./store.ts";

/** What is not decided by id and run folder alone: another target, this terminal. */
const OTHERWISE = /^(-t|--type|--target|--foreground|--$)/;

let ahead: Ahead | undefined;

export class Ahead implements AsyncDisposable {
  readonly id: number;
  readonly dir: string;
  /** Already the process's, too. */
  readonly lock: DeviceLock;
  readonly ownNamespace: boolean;
  readonly #started: Started;
  #isNeeded = false;

  constructor(store: Store, id: number) {
    const { queues, target } = store.load(id)!;
    this.id = id;
    this.dir = store.dir;
    this.lock = store.lock(id, "recover");
    try {
      this.ownNamespace = prepareDaemonParent().ownNamespace;
      // The threads of somebody's file are others.
      const workers = target.includes("/") ? 0 : queues;
      const options = { log: store.logPath(id), lock: this.lock, waits: true };
      this.#started = startDaemon([AHEAD, String(workers)], options);
    } catch (error) {
      this.lock[Symbol.dispose]();
      throw error;
    }
  }

  /** Gives the process its job. */
  begin(job: RecoverJob): Started {
    this.#isNeeded = true;
    // One that has died meanwhile is heard of like any other that dies while it starts.
    void this.#tell(JSON.stringify(job)).catch(() => {});
    return this.#started;
  }

  async #tell(text: string): Promise<void> {
    const { stdin } = this.#started.process;
    if (typeof stdin !== "object") return;
    await stdin.write(text);
    await stdin.end();
  }

  /** Releases the lock; a process that was not needed is gone then. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isNeeded) {
      this.#started.process.kill("SIGKILL");
      await this.#started.process.exited;
    }
    this.lock[Symbol.dispose]();
  }
}

/** `words` are those after `recover`. Whatever keeps it from starting, the command itself will say. */
export function startAhead(words: readonly string[]): void {
  const [id = ""] = words;
  if (!/^\d{1,7}$/.test(id) || words.some((word) => OTHERWISE.test(word))) return;
  ahead = peek(() => new Ahead(new Store(runDirOf(words)), Number(id)));
}

/** What was started for this device, or at all; undefined: nothing. */
export function takeAhead(id = ahead?.id, dir = ahead?.dir): Ahead | undefined {
  if (ahead?.id !== id || ahead?.dir !== dir) return undefined;
  const taken = ahead;
  ahead = undefined;
  return taken;
}

function runDirOf(words: readonly string[]): string {
  const at = words.findIndex((word) => /^--run-dir(=|$)/.test(word));
  if (at < 0) return RUN_DIR;
  return resolve(words[at]!.slice("--run-dir=".length) || words[at + 1]!);
}
