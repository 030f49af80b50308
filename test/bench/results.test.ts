// What bench/ makes of its figures, and that a run that was broken off goes on.

import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync } from "node:fs";

import { CELLS, nameOf } from "../../bench/matrix.ts";
import { page } from "../../bench/page.ts";
import type { Sample, ServerName } from "../../bench/plan.ts";
import { Results } from "../../bench/results.ts";

const [cell] = CELLS;
const path = () => `${mkdtempSync("/tmp/bench-")}/figures.jsonl`;

function sample(server: ServerName, round: number, iops: number): Sample {
  const rest = { p50Us: 1, p99Us: 2, p999Us: 3, cpuNsPerIo: 4, userShare: 0.5, switchesPerIo: 1 };
  return { kind: "sample", cell: nameOf(cell!), server, round, iops, rssBytes: 1e6, ...rest };
}

test("60 cells, each with a name of its own, of which the quick form has 8", () => {
  expect(new Set(CELLS.map(nameOf)).size).toBe(60);
  expect(CELLS.filter(({ quick }) => quick)).toHaveLength(8);
});

test("ratios are those of medians, with the lowest and the highest round", () => {
  const results = new Results(path(), "run");
  [90, 100, 400].forEach((iops, round) => results.add(sample("ublk-bun", round, iops)));
  [100, 200, 50].forEach((iops, round) => results.add(sample("kublk", round, iops)));
  expect(results.ratio(cell!, "kublk", "iops")).toEqual({ of: 1, least: 0.5, most: 8 });
  expect(results.ratio(cell!, "raw", "iops")).toBeUndefined();
  expect(results.rounds(cell!)).toBe(3);
});

test("the same run goes on where it was, another one begins anew", () => {
  const file = path();
  new Results(file, "run").add(sample("ublk-bun", 0, 1));
  expect(new Results(file, "run").samples(cell!, "ublk-bun")).toHaveLength(1);
  expect(new Results(file, "another").samples(cell!, "ublk-bun")).toHaveLength(0);
  expect(readFileSync(file, "utf8")).toBe('{"run":"another"}\n');
});

test("the page says which bars are missed, and what was not measured", () => {
  const results = new Results(path(), "run");
  results.add(sample("ublk-bun", 0, 90));
  results.add(sample("kublk", 0, 100));
  const facts = { date: "", host: "", kernel: "7.3", command: "", rounds: 1, seconds: 1 };
  const text = page(results, CELLS, { ...facts, nop: "", queue: "", size: "" });
  expect(text).toContain(`null 4k: IOPS | ≥ 1.00 | 0 of 1 | 0 | ${nameOf(cell!)} (0.90) |`);
  expect(text).toContain("null 4k: CPU per I/O | ≤ 1.03 | 1 of 1 | 0 | none |");
  expect(text).toContain(`Not measured, for want of time: ${nameOf(CELLS[1]!)}`);
});

test("a bar that is missed by less than rounds differ is told apart", () => {
  const results = new Results(path(), "run");
  results.add(sample("ublk-bun", 0, 97));
  results.add(sample("kublk", 0, 100));
  const facts = { date: "", host: "", kernel: "7.3", command: "", rounds: 1, seconds: 1 };
  const text = page(results, CELLS, { ...facts, nop: "", queue: "", size: "" });
  expect(text).toContain("null 4k: IOPS | ≥ 1.00 | 0 of 1 | 1 | none |");
});
