// watch's part for one device: waits for its server's death, recovers it, and knows when to give up.

import { EXIT, messageOf } from "../errors.ts";
import { log } from "../log.ts";
import { within } from "./deadline.ts";
import { diskPath } from "./disk.ts";
import type { EventLog } from "./events.ts";
import type { Standing } from "./orphans.ts";
import type { Recovered } from "./recover-child.ts";
import { RestartLimit, type RestartPolicy } from "./restart-limit.ts";
import type { Death } from "./server-death.ts";
import type { DeviceRecord } from "./store.ts";
import { noticedDeath } from "./tell.ts";

export const GIVE_UPS = ["keep", "fail", "stop"] as const;
export type GiveUp = (typeof GIVE_UPS)[number];

/** While a command is at work on the device, its end is looked for; most end with a poke. */
const BUSY_MS_MIN = 20;
const BUSY_MS_MAX = 1000;
/** After `recover` has found somebody at work whom we cannot see. */
const TAKEN_MS = 200;

/** What a keeper needs of the world. */
export interface KeeperOptions {
  readonly policy: RestartPolicy;
  readonly onGiveUp: GiveUp;
  readonly events: EventLog;
  /** How the device stands now. */
  readonly look: () => Promise<Standing>;
  /** Resolves when this server is dead; undefined when it is none any more. */
  readonly deathOf: (pid: number) => Promise<Death> | undefined;
  readonly recover: (record: DeviceRecord) => Promise<Recovered>;
  /** Told, while there is a server, what another one would have to serve; undefined: none is wanted. */
  readonly onKept: (record: DeviceRecord | undefined) => void;
  /** Lets the I/O of the device fail, unless somebody serves it again. */
  readonly fail: (how: GiveUp) => Promise<void>;
  /** A server has come or gone. */
  readonly onChange: () => void;
}

/** The server that is waited for. */
interface Server {
  readonly pid: number;
  readonly since: number;
  death: Death | undefined;
}

export class Keeper {
  readonly #id: number;
  readonly #options: KeeperOptions;
  readonly #limit: RestartLimit;
  #poked = Promise.withResolvers<void>();
  #isPoked = false;
  #server: Server | undefined;
  /** The one whose death is not told yet, or was told last. */
  #lastServer: Server | undefined;
  #isTold = false;
  #gaveUp = false;
  #notBefore: number | undefined;
  /** What the last look has shown. */
  #kind: Standing["kind"] | undefined;
  #busyMs = BUSY_MS_MIN;

  constructor(id: number, options: KeeperOptions) {
    this.#id = id;
    this.#options = options;
    this.#limit = new RestartLimit(options.policy);
  }

  /** True while there is a server. */
  get isServed(): boolean {
    return this.#server !== undefined;
  }

  /** Something has happened to the device: look again. */
  poke(): void {
    this.#isPoked = true;
    this.#poked.resolve();
  }

  /** Keeps the device until nothing of it is left. Throws where it cannot be looked at. */
  async run(): Promise<void> {
    try {
      await this.#keep();
    } catch (error) {
      // Nobody would end it: whoever keeps the device from now on starts another.
      this.#options.onKept(undefined);
      throw error;
    }
  }

  async #keep(): Promise<void> {
    for (;;) {
      this.#poked = Promise.withResolvers();
      this.#isPoked = false;
      const standing = await this.#options.look();
      if (standing.kind !== "locked") this.#busyMs = BUSY_MS_MIN;
      // While we looked, another device may have come under the same number.
      if (standing.kind === "gone" && this.#isPoked) continue;
      if (standing.kind === "gone") return this.#leave();
      await this.#handle(standing);
      this.#kind = standing.kind;
    }
  }

  async #handle(standing: Exclude<Standing, { kind: "gone" }>): Promise<void> {
    switch (standing.kind) {
      case "served":
        return await this.#serve(standing);
      case "locked":
        await within(this.#busyMs, this.#poked.promise);
        this.#busyMs = Math.min(2 * this.#busyMs, BUSY_MS_MAX);
        return;
      case "stopped":
        await this.#seeStopped(standing.record);
        return await this.#poked.promise;
      case "resting":
        this.#options.onKept(undefined);
        this.#setServer(undefined);
        if (this.#kind !== "resting") this.#say("has no server on purpose: it waits for recover");
        return await this.#poked.promise;
      case "orphaned":
        return await this.#orphaned(standing.record);
    }
  }

  /** Waits until the server has died, or somebody has done something. */
  async #serve({ pid, record }: Extract<Standing, { kind: "served" }>): Promise<void> {
    if (this.#server?.pid !== pid) {
      const server = this.#watchServer(pid);
      // Ended since the look: the next one sees more.
      if (server === undefined) return void (await within(BUSY_MS_MIN, this.#poked.promise));
      if (this.#gaveUp) this.#limit.forget();
      this.#gaveUp = false;
      this.#notBefore = undefined;
      this.#isTold = false;
      this.#setServer(server);
      this.#say(`(${diskPath(this.#id)}) is watched, its server is pid ${pid}`);
    }
    this.#options.onKept(record.recovery === "none" ? undefined : record);
    if (this.#server?.death === undefined) await this.#poked.promise;
    if (this.#server?.death === undefined) return;
    this.#limit.served(performance.now() - this.#server.since);
    this.#setServer(undefined);
  }

  #setServer(server: Server | undefined): void {
    this.#server = server;
    this.#lastServer = server ?? this.#lastServer;
    this.#options.onChange();
  }

  /** Undefined when it is not that server any more. */
  #watchServer(pid: number): Server | undefined {
    const died = this.#options.deathOf(pid);
    if (died === undefined) return undefined;
    const server: Server = { pid, since: performance.now(), death: undefined };
    void died.then((death) => {
      server.death = death;
      this.poke();
    });
    return server;
  }

  /** Its server has died, and nobody is at the device. */
  async #orphaned(record: DeviceRecord): Promise<void> {
    if (this.#server) this.#setServer(undefined);
    await this.#tellDeath(record);
    if (record.recovery === "none") {
      // The kernel drops the disk in a moment; there is nothing that could be done.
      await this.#poked.promise;
      return;
    }
    if (this.#gaveUp) return await this.#poked.promise;
    const now = performance.now();
    const pauseMs = this.#limit.pauseMs(now);
    if (pauseMs === undefined) {
      const { maxRestarts, windowMs } = this.#options.policy;
      return await this.#giveUp(record, `${maxRestarts} restarts within ${windowMs / 1000} s`);
    }
    this.#notBefore ??= now + pauseMs;
    if (now < this.#notBefore) {
      const leftMs = this.#notBefore - now;
      this.#say(`will be recovered in ${Math.ceil(leftMs)} ms`);
      await within(leftMs, this.#poked.promise);
      return;
    }
    this.#notBefore = undefined;
    await this.#recover(record);
  }

  async #recover(record: DeviceRecord): Promise<void> {
    this.#limit.began(performance.now());
    const { maxRestarts } = this.#options.policy;
    this.#say(`is being recovered (${this.#limit.count} of ${maxRestarts})`);
    const { exitCode, serverPid, message } = await this.#options.recover(record);
    const last = this.#options.events.last(this.#id);
    if (exitCode === EXIT.ok || last?.event === "recovered") {
      // It may be dead again already: another death.
      this.#isTold = false;
      const pid = serverPid ?? last?.pid ?? undefined;
      const since = performance.now();
      this.#lastServer = pid === undefined ? undefined : { pid, since, death: undefined };
    }
    if (exitCode === EXIT.ok) {
      const after = last?.pauseMs === undefined ? "" : `, after ${last.pauseMs} ms`;
      return this.#say(`is live again, pid ${serverPid}${after}`);
    }
    if (exitCode === EXIT.busy) {
      this.#limit.takeBack();
      this.#notBefore = performance.now() + TAKEN_MS;
      return;
    }
    log.warn(`device ${this.#id}: not recovered: ${message}`);
    // What no waiting can mend, unless it was mended meanwhile.
    if (exitCode !== EXIT.notRecoverable) return;
    const standing = await this.#options.look();
    if (standing.kind === "orphaned") await this.#giveUp(record, message);
  }

  async #giveUp({ target }: DeviceRecord, reason: string): Promise<void> {
    this.#gaveUp = true;
    const { onGiveUp, events, fail } = this.#options;
    const id = this.#id;
    log.error(`device ${id} (${diskPath(id)}) is given up, ${reason}: ${EPILOGUES[onGiveUp]}`);
    events.add("gave-up", { id, target, reason, policy: onGiveUp });
    this.#options.onKept(undefined);
    if (onGiveUp === "keep") return;
    try {
      await fail(onGiveUp);
    } catch (error) {
      log.error(`device ${id}: its I/O does not fail: ${messageOf(error)}`);
    }
  }

  async #seeStopped(record: DeviceRecord): Promise<void> {
    const how = await this.#lastServer?.death?.how;
    const isCrash =
      record.recovery === "none" &&
      this.#lastServer !== undefined &&
      how !== "exit code 0" &&
      this.#options.events.last(this.#id)?.event !== "stopped";
    if (isCrash) await this.#tellDeath(record);
    this.#options.onKept(undefined);
    this.#setServer(undefined);
    this.#isTold = true;
  }

  /** Once a death, as an event and a line. */
  async #tellDeath({ target, recovery }: DeviceRecord): Promise<void> {
    if (this.#isTold) return;
    this.#isTold = true;
    const { events } = this.#options;
    const id = this.#id;
    const { pid = null, death } = this.#lastServer ?? {};
    const how = pid === null ? "found without a server" : await death?.how;
    // The server itself may have said so, or the watch before us.
    if (noticedDeath(events.recent(id)) === undefined) {
      const at = death?.at ?? Date.now();
      events.add("died", { id, target, pid, at, ...(how === undefined ? {} : { how }) });
    }
    const what = pid === null ? "has no server" : `has lost its server, pid ${pid}`;
    const why = pid === null || how === undefined ? "" : `: ${how}`;
    const lost = recovery === "none" ? "; it was added without recovery: its disk is gone" : "";
    log.warn(`device ${id} (${diskPath(id)}) ${what}${why}${lost}`);
  }

  #leave(): void {
    this.#options.onKept(undefined);
    this.#setServer(undefined);
    if (this.#lastServer !== undefined) this.#say("is gone");
  }

  #say(what: string): void {
    log.info(`device ${this.#id} ${what}`);
  }
}

/** What becomes of a device that is given up. */
const EPILOGUES: Readonly<Record<GiveUp, string>> = {
  keep: "its I/O waits for recover",
  fail: "its I/O shall fail",
  stop: "it is stopped, its I/O fails",
};
