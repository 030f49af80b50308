// What watch does for one device, with a world that the test makes up.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { EventLog } from "../../src/device/events.ts";
import { type GiveUp, Keeper } from "../../src/device/keeper.ts";
import type { Standing } from "../../src/device/orphans.ts";
import type { Recovered } from "../../src/device/recover-child.ts";
import type { Death } from "../../src/device/server-death.ts";
import type { DeviceRecord } from "../../src/device/store.ts";
import type { ExitCode } from "../../src/errors.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ublk-keeper-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** A device whose kernel, record and servers are this object. */
class World {
  readonly events = new EventLog(dir);
  readonly record: DeviceRecord;
  standing: Standing;
  /** What the next recoveries come to; then, they work. */
  readonly outcomes: ExitCode[] = [];
  recoveries = 0;
  readonly failed: GiveUp[] = [];
  looks = 0;
  /** Whether a standby was wanted, each time that was said. */
  readonly kept: boolean[] = [];
  look = async (): Promise<Standing> => this.standing;
  readonly keeper: Keeper;
  readonly ended: Promise<void>;
  #pid = 100;
  #die: ((death: Death) => void) | undefined;

  constructor({
    recovery = "reissue" as DeviceRecord["recovery"],
    maxRestarts = 5,
    onGiveUp = "keep" as GiveUp,
    begin = "served" as "served" | "orphaned" | "resting",
  } = {}) {
    this.record = { id: 3, target: "null", recovery } as DeviceRecord;
    this.standing = this.#idle("orphaned");
    if (begin === "served") this.serve();
    else this.standing = this.#idle(begin);
    this.keeper = new Keeper(3, {
      policy: { maxRestarts, windowMs: 60_000, backoffMs: 1, backoffMsMax: 4 },
      onGiveUp,
      events: this.events,
      look: () => this.look(),
      deathOf: () => {
        const { promise, resolve } = Promise.withResolvers<Death>();
        this.#die = resolve;
        return promise;
      },
      recover: async () => this.#recover(),
      fail: async (how) => {
        this.failed.push(how);
        this.standing = this.#idle("stopped");
      },
      onKept: (record) => this.kept.push(record !== undefined),
      onChange: () => {},
    });
    this.ended = this.keeper.run();
  }

  serve(): void {
    this.standing = { kind: "served", pid: ++this.#pid, record: this.record };
  }

  #idle(kind: "locked" | "stopped" | "resting" | "orphaned"): Standing {
    return { kind, record: this.record, state: kind === "stopped" ? "DEAD" : "QUIESCED" };
  }

  /** The server dies, and the device stands so. */
  die(kind: "locked" | "stopped" | "resting" | "orphaned" = "orphaned"): void {
    this.standing = this.#idle(kind);
    this.#die?.({ at: Date.now(), how: Promise.resolve("SIGKILL") });
    this.#die = undefined;
  }

  change(kind: "locked" | "stopped" | "resting" | "orphaned" | "served"): void {
    if (kind === "served") this.serve();
    else this.standing = this.#idle(kind);
    this.keeper.poke();
  }

  #recover(): Recovered {
    this.recoveries++;
    const exitCode = this.outcomes.shift() ?? 0;
    if (exitCode !== 0) return { exitCode, serverPid: null, message: "it was not to be" };
    this.serve();
    const pid = this.#pid;
    this.events.add("recovered", { id: 3, target: "null", pid, pauseMs: 1, pauseFrom: "death" });
    return { exitCode, serverPid: pid, message: "" };
  }

  get told(): string[] {
    return [...this.events.recent(3)].map(({ event }) => event).toReversed();
  }

  async until(condition: () => boolean): Promise<void> {
    const deadline = performance.now() + 10_000;
    while (!condition()) {
      if (performance.now() > deadline) throw new Error(`told: ${this.told.join()}`);
      await Bun.sleep(1);
    }
  }

  /** Lets the keeper come to rest. */
  async settle(): Promise<void> {
    await this.until(() => this.keeper.isServed);
  }

  /** Everything goes, and the keeper with it. */
  async end(): Promise<void> {
    this.standing = { kind: "gone" };
    this.keeper.poke();
    await this.ended;
  }
}

test("a server that dies is told once, with its pid and how, and recovered", async () => {
  const world = new World();
  await world.settle();
  world.die();
  await world.until(() => world.recoveries === 1);
  await world.settle();
  const died = [...world.events.recent(3)].at(-1);
  expect(died).toMatchObject({ event: "died", pid: 101, how: "SIGKILL", target: "null" });
  expect(world.told).toEqual(["died", "recovered"]);
  world.keeper.poke();
  world.die();
  await world.until(() => world.recoveries === 2);
  await world.settle();
  expect(world.told).toEqual(["died", "recovered", "died", "recovered"]);
  await world.end();
});

test("a standby is wanted as long as there is a server, or one to come", async () => {
  const world = new World();
  await world.settle();
  expect(world.kept).toEqual([true]);
  world.die();
  await world.until(() => world.recoveries === 1);
  await world.settle();
  // Not taken back in between: recover takes it.
  expect(world.kept).not.toContain(false);
  world.die("resting");
  await world.until(() => world.kept.at(-1) === false);
  world.change("served");
  await world.until(() => world.kept.at(-1) === true);
  world.die("stopped");
  await world.until(() => world.kept.at(-1) === false);
  await world.end();
  const none = new World({ recovery: "none" });
  await none.settle();
  await none.until(() => none.kept.length > 0);
  expect(none.kept).toEqual([false]);
  await none.end();
});

test("a device found without a server is recovered", async () => {
  const world = new World({ begin: "orphaned" });
  await world.settle();
  expect([...world.events.recent(3)].at(-1)).toMatchObject({
    event: "died",
    pid: null,
    how: "found without a server",
  });
  expect(world.recoveries).toBe(1);
  await world.end();
});

test("what somebody is at work on, has stopped or wanted to rest is left alone", async () => {
  const world = new World();
  await world.settle();
  world.die("locked");
  await world.until(() => !world.keeper.isServed);
  // An upgrade has ended.
  world.change("served");
  await world.settle();
  world.die("resting");
  await world.until(() => !world.keeper.isServed);
  world.keeper.poke();
  world.change("stopped");
  await Bun.sleep(5);
  expect(world.recoveries).toBe(0);
  expect(world.told).toEqual([]);
  await world.end();
});

test("a command that ends without a server leaves an orphan, which is recovered", async () => {
  const world = new World();
  await world.settle();
  world.die("locked");
  await world.until(() => !world.keeper.isServed);
  world.change("orphaned");
  await world.settle();
  expect(world.told).toEqual(["died", "recovered"]);
  await world.end();
});

test("recoveries that fail are repeated, and then given up: keep", async () => {
  const world = new World({ maxRestarts: 3 });
  world.outcomes.push(1, 124, 1, 1, 1);
  await world.settle();
  world.die();
  await world.until(() => world.told.includes("gave-up"));
  expect(world.recoveries).toBe(3);
  expect(world.told).toEqual(["died", "gave-up"]);
  expect(world.events.last(3)).toMatchObject({
    reason: "3 restarts within 60 s",
    policy: "keep",
  });
  world.keeper.poke();
  await Bun.sleep(5);
  expect(world.recoveries).toBe(3);
  expect(world.failed).toEqual([]);
  // Set right by hand it is watched anew, with all of its restarts.
  world.outcomes.length = 0;
  world.events.add("recovered", { id: 3, target: "null" });
  world.change("served");
  await world.settle();
  world.die();
  await world.until(() => world.recoveries === 4);
  await world.end();
});

test.each(["stop", "fail"] as const)("a server that keeps dying is given up: %s", async (how) => {
  const world = new World({ maxRestarts: 4, onGiveUp: how });
  for (let death = 0; death < 5; death++) {
    await world.settle();
    const { recoveries } = world;
    world.die();
    await world.until(() => world.recoveries > recoveries || world.told.includes("gave-up"));
  }
  await world.until(() => world.failed.length > 0);
  expect(world.recoveries).toBe(4);
  expect(world.failed).toEqual([how]);
  expect(world.told.filter((name) => name === "died").length).toBe(5);
  expect(world.told.at(-1)).toBe("gave-up");
  await world.end();
});

test("a command that was quicker costs no restart", async () => {
  const world = new World({ maxRestarts: 1 });
  world.outcomes.push(5, 5, 0);
  await world.settle();
  world.die();
  await world.until(() => world.recoveries === 3);
  await world.settle();
  expect(world.told).toEqual(["died", "recovered"]);
  await world.end();
});

test("what cannot be recovered is given up at once, with the reason", async () => {
  const world = new World();
  world.outcomes.push(6);
  await world.settle();
  world.die();
  await world.until(() => world.told.includes("gave-up"));
  expect(world.events.last(3)).toMatchObject({ reason: "it was not to be" });
  expect(world.recoveries).toBe(1);
  await world.end();
});

test("a crash without recovery is told, and nothing is done; a stop is not told", async () => {
  const world = new World({ recovery: "none" });
  await world.settle();
  world.die("stopped");
  await world.until(() => world.told.includes("died"));
  expect(world.recoveries).toBe(0);
  await world.end();
  rmSync(join(dir, "events.ndjson"));
  const stopped = new World({ recovery: "none" });
  await stopped.settle();
  stopped.events.add("stopped", { id: 3, target: "null" });
  stopped.die("stopped");
  await stopped.until(() => !stopped.keeper.isServed);
  await Bun.sleep(5);
  expect(stopped.told).toEqual(["stopped"]);
  await stopped.end();
});

test("a device that comes while its predecessor is seen to be gone is not missed", async () => {
  const world = new World();
  await world.settle();
  world.standing = { kind: "gone" };
  const { look } = world;
  world.look = async () => {
    const seen = await look();
    if (seen.kind === "gone" && world.looks++ === 0) world.change("served");
    return seen;
  };
  world.keeper.poke();
  await world.until(() => world.looks === 1);
  await world.settle();
  world.die();
  await world.until(() => world.recoveries === 1);
  await world.end();
});

test("a server that dies of itself tells so, and is not told again", async () => {
  const world = new World();
  await world.settle();
  world.events.add("died", { id: 3, target: "null", pid: 101, how: "queue 0 is lost" });
  world.die();
  await world.settle();
  await world.until(() => world.recoveries === 1);
  expect(world.told).toEqual(["died", "recovered"]);
  await world.end();
});

test("a keeper that cannot look leaves no standby behind: nobody would end it", async () => {
  const world = new World();
  await world.settle();
  expect(world.kept.at(-1)).toBe(true);
  world.look = () => Promise.reject(new Error("no answer"));
  world.keeper.poke();
  await expect(world.ended).rejects.toThrow("no answer");
  expect(world.kept.at(-1)).toBe(false);
});
