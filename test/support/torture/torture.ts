// What every torture is given, and what it tells.

import { chooseSeed, seeded } from "../seeded.ts";

export interface Torture {
  readonly kills: number;
  readonly seed: number;
  readonly random: () => number;
  /** Tells of one step. */
  readonly say: (line: string) => void;
}

export interface TortureResult {
  readonly kills: number;
  /** In a few words, what was done and compared. */
  readonly detail: string;
  /** How long each `recover` took. */
  readonly recoverMs: readonly number[];
}

const quiet = (_line: string) => {};

export function torture(kills: number, seed = chooseSeed(), say = quiet): Torture {
  return { kills, seed, random: seeded(seed), say };
}
