// Figures kept in a file as they come, so that a run can go on where it was broken off, and what they say.

import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

import { type Cell, nameOf } from "./matrix.ts";
import type { Figure, Idle, Sample, ServerName, Start } from "./plan.ts";

/** The numbers of a sample. */
export type Measure = Exclude<keyof Sample, "kind" | "cell" | "server" | "round">;

export class Results {
  readonly #path: string;
  #figures: Figure[] = [];

  /** Goes on with the file at `path` if it is of the same `run`, and begins it anew if not. */
  constructor(path: string, run: string) {
    this.#path = path;
    const head = JSON.stringify({ run });
    const lines = existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
    if (lines[0] === head) {
      this.#figures = lines.slice(1).map((line) => JSON.parse(line) as Figure);
    } else {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, `${head}\n`);
    }
  }

  add(figure: Figure): void {
    this.#figures.push(figure);
    appendFileSync(this.#path, `${JSON.stringify(figure)}\n`);
  }

  get hasLife(): boolean {
    return this.#figures.some(({ kind }) => kind === "idle");
  }

  get starts(): readonly Start[] {
    return this.#figures.filter((figure) => figure.kind === "start");
  }

  get idles(): readonly Idle[] {
    return this.#figures.filter((figure) => figure.kind === "idle");
  }

  /** One cell's samples of one server, in the order they were taken. */
  samples(cell: Cell, server: ServerName): readonly Sample[] {
    const name = nameOf(cell);
    return this.#figures.filter(
      (figure): figure is Sample =>
        figure.kind === "sample" && figure.cell === name && figure.server === server,
    );
  }

  rounds(cell: Cell): number {
    return Math.min(this.samples(cell, "ublk-bun").length, this.samples(cell, "kublk").length);
  }

  median(cell: Cell, server: ServerName, measure: Measure): number {
    return median(this.samples(cell, server).map((sample) => sample[measure]));
  }

  /** Ours to another's: of the medians, and the lowest and highest of the rounds. */
  ratio(cell: Cell, to: ServerName, measure: Measure): Ratio | undefined {
    const mine = this.samples(cell, "ublk-bun").map((sample) => sample[measure]);
    const others = this.samples(cell, to).map((sample) => sample[measure]);
    return mine.length === 0 || others.length === 0 ? undefined : ratioOf(mine, others);
  }
}

export interface Ratio {
  readonly of: number;
  readonly least: number;
  readonly most: number;
}

/** Of figures that were taken in the same rounds. */
export function ratioOf(mine: readonly number[], others: readonly number[]): Ratio {
  const each = mine.flatMap((value, i) => (others[i] ? [value / others[i]] : []));
  const of = median(mine) / median(others);
  return { of, least: Math.min(...each), most: Math.max(...each) };
}

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
