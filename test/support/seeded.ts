// Numbers that are random and can be had again.

export { seeded } from "../../src/check/content.ts";

/** A seed of its own for each run, or the one of a run that is to be seen again. */
export function chooseSeed(): number {
  const seed = Number(process.env["SEED"] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`SEED=${seed}`);
  return seed;
}
