// What every torture is given, and what it tells.

import { seeded } from "../seeded.ts";

export interface Torture {
  readonly kills: number;
  readonly seed: number;
  readonly random: () => number;
  readonly say: (line: string) => void;
}

export interface TortureResult {
  readonly kills: number;
  /** In a few words, what was done and compared. */
  readonly detail: string;
  /** How long each `recover` took. */
  readonly recoverMs: readonly number[];
}

export function torture(kills: number, seed: number, say: (line: string) => void): Torture {
  return { kills, seed, random: seeded(seed), say };
}
