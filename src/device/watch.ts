// watch: recovers this host's disks whenever their servers die. One process; it opens no device.

import { statSync, watch } from "../builtin.ts";
import type { Control } from "../control/control.ts";
import { EXIT, messageOf, UblkError } from "../errors.ts";
import { log, logAsDaemon } from "../log.ts";
import { isOwnCode } from "./code.ts";
import { within } from "./deadline.ts";
import { EventReader, EVENTS_FILE } from "./events.ts";
import { Helper, type SendOptions } from "./helper.ts";
import { deviceOf } from "./identity.ts";
import { type GiveUp, Keeper, type KeeperOptions } from "./keeper.ts";
import { notifyManager } from "./notify.ts";
import { type Standing, standingOf } from "./orphans.ts";
import { peek } from "./processes.ts";
import { recoverByChild, type Recovered } from "./recover-child.ts";
import type { RestartPolicy } from "./restart-limit.ts";
import { isResting } from "./resting.ts";
import { programOf } from "./self.ts";
import { deathOf } from "./server-death.ts";
import { Standby, type Waiting } from "./standby.ts";
import type { Store } from "./store.ts";
import { Successor } from "./successor.ts";
import { trimMemory } from "./trim.ts";
import { Turns } from "./turns.ts";

/** Each recovery costs two processes while it lasts. */
const RECOVERIES_AT_ONCE = 8;
/** Standbys do not press: whoever uses a disk goes first. */
const STARTS_AT_ONCE = 1;
/** Lock, START, fetch, END. */
const TAKE_OVER_STEPS = 4;
/** By then the start is over. */
const TRIM_AFTER_MS = 1000;
/** After what nobody has foreseen, a device is looked at again. */
const RETRY_MS = 1000;

export interface WatchOptions {
  readonly control: Control;
  readonly store: Store;
  readonly timeoutMs: number;
  readonly liburing: string;
  readonly policy: RestartPolicy;
  readonly onGiveUp: GiveUp;
  /** Every disk has a server in waiting. */
  readonly standby: boolean;
}

/** Watches until SIGTERM or SIGINT. Throws with exit 5 when the run folder is watched already. */
export async function watchDevices(options: WatchOptions): Promise<void> {
  const { store } = options;
  store.prepare();
  using lock = store.lockWatch();
  void lock;
  logAsDaemon();
  const over = Promise.withResolvers<void>();
  process.on("SIGTERM", () => over.resolve()).on("SIGINT", () => over.resolve());
  using watcher = new Watcher(options, over.reject);
  watcher.begin();
  notifyManager({ READY: "1", STATUS: watcher.status });
  setTimeout(trimMemory, TRIM_AFTER_MS).unref();
  await over.promise;
  notifyManager({ STOPPING: "1" });
  log.info("ends; the disks and their servers stay");
}

class Watcher implements Disposable {
  readonly #options: WatchOptions;
  readonly #onLost: (error: UblkError) => void;
  readonly #keepers = new Map<number, Keeper>();
  readonly #events: EventReader;
  readonly #folder;
  readonly #folderInode: number;
  readonly #looks = new Turns(1);
  readonly #recoveries = new Turns(RECOVERIES_AT_ONCE);
  readonly #starts = new Turns(STARTS_AT_ONCE);
  readonly #strange = new Set<number>();
  #status = "";

  constructor(options: WatchOptions, onLost: (error: UblkError) => void) {
    const { store } = options;
    this.#options = options;
    this.#onLost = onLost;
    // Before the first look, so that nothing is missed in between.
    this.#events = new EventReader(store.events.path, { fromEnd: true });
    this.#folderInode = statSync(store.dir).ino;
    this.#folder = watch(store.dir, (_type, name) => this.#onChange(name));
  }

  get status(): string {
    const count = [...this.#keepers.values()].filter(({ isServed }) => isServed).length;
    return `${count} server${count === 1 ? " is" : "s are"} watched`;
  }

  #tellStatus(): void {
    if (this.#status === this.status) return;
    this.#status = this.status;
    notifyManager({ STATUS: this.#status });
  }

  /** Takes care of every device there is. */
  begin(): void {
    const { store } = this.#options;
    log.info(`watches the disks of ${store.dir}`);
    for (const id of store.ids()) this.#care(id);
  }

  [Symbol.dispose](): void {
    this.#folder.close();
    this.#events[Symbol.dispose]();
  }

  /** A file in the run folder: whoever does something to a device writes there. */
  #onChange(name: string | null): void {
    if (peek(() => statSync(this.#options.store.dir).ino) !== this.#folderInode) {
      const what = `The run folder "${this.#options.store.dir}" has been removed`;
      return this.#onLost(new UblkError(what, { hint: "start watch again" }));
    }
    // Without a name: anything may have happened.
    if (name === null) return this.#options.store.ids().forEach((id) => this.#care(id));
    if (name === EVENTS_FILE) return this.#events.take().forEach(({ id }) => this.#care(id));
    const id = /^(\d+)\.(json|lock|rest)$/.exec(name)?.[1];
    if (id !== undefined) this.#care(Number(id));
  }

  #care(id: number): void {
    const keeper = this.#keepers.get(id);
    if (keeper) return keeper.poke();
    if (!this.#options.store.has(id)) return;
    const made = new Keeper(id, this.#keeperOptions(id));
    this.#keepers.set(id, made);
    made.run().then(
      () => this.#forget(id),
      (error: unknown) => {
        log.error(error);
        this.#forget(id);
        setTimeout(() => this.#care(id), RETRY_MS);
      },
    );
  }

  #forget(id: number): void {
    this.#keepers.delete(id);
    this.#tellStatus();
    if (!this.#options.store.has(id)) this.#strange.delete(id);
    else if (!this.#strange.has(id)) {
      this.#strange.add(id);
      log.info(`device ${id} is left alone: its record is of another device, or not usable`);
    }
  }

  #standby(id: number): Standby {
    const { store, timeoutMs, liburing } = this.#options;
    return new Standby(id, (record, isWanted) =>
      this.#starts.take(async () => {
        if (!isWanted()) throw new UblkError("it is not wanted any more");
        return await Successor.start({
          id,
          store,
          timeoutMs,
          liburing: liburing || record.liburing,
          lock: undefined,
          role: "standby",
          env: {},
          ...programOf(record),
        });
      }),
    );
  }

  #keeperOptions(id: number): KeeperOptions {
    const { control, store, timeoutMs, liburing, policy, onGiveUp } = this.#options;
    const look = () => this.#looks.take(() => standingOf(control, store, id));
    const words = { runDir: store.dir, timeoutMs, liburing };
    const standby = this.#options.standby ? this.#standby(id) : undefined;
    return {
      policy,
      onGiveUp,
      events: store.events,
      look,
      deathOf: (pid) => deathOf(control, pid, id),
      recover: (record) =>
        this.#recoveries.take(async () => {
          const recovered = await takeOver(id, standby?.take(), timeoutMs);
          return recovered ?? recoverByChild(id, { ...words, ...programOf(record) });
        }),
      onKept: (record) => {
        // What a target of one's own has opened, and its code, may be out of date when the moment comes.
        if (record === undefined || isOwnCode(record)) standby?.drop();
        else standby?.keep(record);
      },
      fail: (how) => failIo(id, how, { control, store, timeoutMs, liburing, look }),
      onChange: () => this.#tellStatus(),
    };
  }
}

/** Lets a standby serve the device; undefined: there is none, or it could not. */
async function takeOver(
  id: number,
  standby: Waiting | undefined,
  timeoutMs: number,
): Promise<Recovered | undefined> {
  if (standby === undefined) return undefined;
  try {
    await standby.go();
    // Each of its steps has a deadline of its own: this one is for a process that cannot even fail.
    const live = await within(TAKE_OVER_STEPS * timeoutMs, standby.live());
    if (live !== "late") return { exitCode: EXIT.ok, serverPid: standby.pid, message: "" };
    log.warn(`device ${id}: its standby, pid ${standby.pid}, does not take it over`);
  } catch (error) {
    log.warn(`device ${id}: its standby did not take it over: ${messageOf(error)}`);
  }
  standby.abandon();
  return undefined;
}

/** STOP, under the device's lock, and only if it still has no server. */
async function failIo(
  id: number,
  how: GiveUp,
  { store, look, ...options }: FailOptions,
): Promise<void> {
  using lock = await store.lockSoon(id, "watch", options.timeoutMs);
  void lock;
  const standing = await look();
  if (standing.kind === "gone" || standing.kind === "served" || standing.state === "DEAD") return;
  // Our own lock shows as somebody's, and hides this.
  if (isResting(store, standing.record)) return;
  // All I/O fails there already, and the disk can still be recovered.
  if (how === "fail" && standing.state === "FAIL_IO") return;
  await using helper = new Helper(deviceOf(standing.record), options);
  await helper.send("stop");
  store.events.add("stopped", { id, target: standing.record.target });
  log.info(`device ${id} is stopped: its waiting I/O has failed`);
}

interface FailOptions extends SendOptions {
  readonly store: Store;
  readonly look: () => Promise<Standing>;
}
