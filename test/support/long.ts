// How much of a thing is done: `npm test` proves it on little, `npm run test:long` on much.

/** UBLK_LONG=1; the same assertions, larger amounts. */
export const isLong = process.env["UBLK_LONG"] === "1";

/** The amount for this run. */
export function amount({ short, long }: { readonly short: number; readonly long: number }): number {
  return isLong ? long : short;
}
