// events: what has happened to disks, a line of JSON each; --follow: also what happens from now on.

import { resolve, watch } from "../../builtin.ts";
import { type DeviceEvent, EventReader } from "../../device/events.ts";
import { Store } from "../../device/store.ts";
import { UsageError } from "../../errors.ts";
import { parseInteger, parseMilliseconds } from "../../units.ts";
import { commonArgs, idArgs, optionalId } from "../args.ts";
import { defineCommand } from "../define.ts";
import { printWhileRead } from "../output.ts";

export default defineCommand({
  meta: { name: "events", description: "Print what has happened to disks, as JSON lines." },
  args: {
    ...idArgs,
    follow: { type: "boolean", alias: "f", description: "go on with what happens from now on" },
    since: {
      type: "string",
      description: "only events since then: 2026-01-31T12:00Z, or how long ago: 10m",
      valueHint: "TIME",
    },
    lines: { type: "string", description: "only the last N", valueHint: "N" },
    "run-dir": commonArgs["run-dir"],
  },
  run: async ({ args }) => {
    const id = optionalId(args);
    const since = args.since === undefined ? 0 : parseSince(args.since);
    if (args.since !== undefined && args.lines !== undefined) {
      throw new UsageError("--since and --lines are given", "give one of them");
    }
    const lines = args.lines === undefined ? undefined : readLines(args.lines);
    const store = new Store(resolve(args["run-dir"]));
    // Only a folder that is there can be watched.
    if (args.follow) store.prepare();
    using reader = new EventReader(store.events.path, { fromEnd: false });
    const isAsked = (event: DeviceEvent) => id === undefined || event.id === id;
    // Before anything is read, so that nothing is missed in between.
    using changes = args.follow ? new Changes(store.dir) : undefined;
    const past = [...store.events.older(), ...reader.take()].filter(isAsked);
    const recent = past.filter(({ time }) => Date.parse(time) >= since);
    if (!printAll(lines === undefined ? recent : recent.slice(recent.length - lines))) return;
    if (changes === undefined) return;
    do await changes.next();
    while (printAll(reader.take().filter(isAsked)));
  },
});

/** False: nobody reads them any more. */
const printAll = (events: readonly DeviceEvent[]) =>
  events.every((event) => printWhileRead(JSON.stringify(event)));

const AGAIN_MS = 20;

/** Wakes its reader when something in the folder changes. */
class Changes implements Disposable {
  readonly #watcher;
  #again: ReturnType<typeof setTimeout> | undefined;
  #changed = Promise.withResolvers<void>();

  constructor(dir: string) {
    this.#watcher = watch(dir, () => {
      this.#changed.resolve();
      // The runtime tells nothing of a second change to the same file so soon after the first.
      clearTimeout(this.#again);
      this.#again = setTimeout(() => this.#changed.resolve(), AGAIN_MS);
    });
  }

  async next(): Promise<void> {
    await this.#changed.promise;
    this.#changed = Promise.withResolvers<void>();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#again);
    this.#watcher.close();
  }
}

const readLines = (word: string) =>
  parseInteger(word, "--lines", { min: 0, max: Number.MAX_SAFE_INTEGER });

/** Milliseconds since 1970. */
function parseSince(word: string): number {
  if (/^\d+(\.\d+)?(ms|s|m|h)?$/i.test(word))
    return Date.now() - parseMilliseconds(word, "--since");
  const time = Date.parse(word);
  if (!Number.isNaN(time)) return time;
  throw new UsageError(
    `--since "${word}" is not a time`,
    "write a date and time as in an event, or how long ago, such as 10m",
  );
}
