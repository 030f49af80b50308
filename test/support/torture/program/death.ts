// Where the odd program kills itself: at a step that a file names, once, in the process that it names.

import { readFileSync, rmSync } from "node:fs";

import type { Command } from "../../../../src/control/command.ts";
import { Control } from "../../../../src/control/control.ts";
import { DAEMON_COMMAND } from "../../../../src/device/job.ts";
import { SEND_COMMAND } from "../../../../src/device/sender.ts";
import { Store } from "../../../../src/device/store.ts";
import { Successor } from "../../../../src/device/successor.ts";
import { Workers } from "../../../../src/device/workers.ts";
import { Queue } from "../../../../src/queue/queue.ts";

/** Holds a Death as JSON; removed by whoever dies of it. */
export const DEATH_FILE = "/run/ublk-bun-death";

export interface Death {
  /** Which of the program's processes. */
  readonly who: "launcher" | "daemon" | "helper";
  /**
   * A control command's name, PREPARE (Workers started), FETCH (all tags), HALF_FETCH (so many of one
   * queue), SAVE or FORGET (a record), LOCK (a device's), GO (the successor's word), DRAIN or LEAVE (its
   * predecessor's).
   */
  readonly step: string;
  readonly when: "before" | "after";
}

const ROLES: Readonly<Record<string, Death["who"]>> = {
  [DAEMON_COMMAND]: "daemon",
  [SEND_COMMAND]: "helper",
};

/** Arms this process, whose first word is `word`, if it is the one that shall die. */
export function dieWhenAsked(word: string): void {
  const death = readDeath();
  if (death === undefined || death.who !== (ROLES[word] ?? "launcher")) return;
  const die = (step: string, when: Death["when"]) => {
    if (step === death.step && when === death.when && readDeath() !== undefined) dieNow();
  };
  around(Control.prototype, "run", ([command]) => (command as Command).name, die);
  around(Store.prototype, "save", () => "SAVE", die);
  around(Store.prototype, "lock", () => "LOCK", die);
  around(Store.prototype, "remove", () => "FORGET", die);
  around(Workers.prototype, "prepare", () => "PREPARE", die);
  around(Workers.prototype, "prime", () => "FETCH", die);
  around(Workers.prototype, "drain", () => "DRAIN", die);
  around(Workers.prototype, "leave", () => "LEAVE", die);
  around(Successor.prototype, "go", () => "GO", die);
}

/** Arms a queue's thread: it dies when half of its tags are fetched. */
export function dieInFetchWhenAsked(): void {
  if (readDeath()?.step !== "HALF_FETCH") return;
  const prime = Queue.prototype.prime;
  Queue.prototype.prime = function (this: Queue, handler): void {
    let fetched = 0;
    prime.call(this, {
      ...handler,
      fetching: (tag: number) => {
        handler.fetching?.(tag);
        if (++fetched <= this.depth / 2) return;
        this.submit();
        dieNow();
      },
    });
  };
}

function dieNow(): void {
  rmSync(DEATH_FILE);
  process.kill(process.pid, "SIGKILL");
  Bun.sleepSync(60_000);
}

function readDeath(): Death | undefined {
  try {
    return JSON.parse(readFileSync(DEATH_FILE, "utf8")) as Death;
  } catch {
    return undefined;
  }
}

/** Lets every call of a method pass two places to die at. */
function around<K extends string>(
  prototype: Record<K, (...words: never[]) => unknown>,
  method: K,
  stepOf: (words: readonly unknown[]) => string,
  die: (step: string, when: Death["when"]) => void,
): void {
  const original = prototype[method];
  prototype[method] = function (this: unknown, ...words: never[]): unknown {
    const step = stepOf(words);
    die(step, "before");
    const result = original.apply(this, words);
    if (!(result instanceof Promise)) {
      die(step, "after");
      return result;
    }
    return result.then((value) => {
      die(step, "after");
      return value;
    });
  };
}
