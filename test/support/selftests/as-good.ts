// Tests that are the kernel's scripts: what passes with the kernel's own server passes with ours.

import { afterAll, beforeAll, expect, test } from "bun:test";

import { isLong } from "../long.ts";
import { Scripts } from "./scripts.ts";
import theirs from "./theirs.json";

const TIMEOUT_MS = 1_200_000;

/** Registers a test for each of `names`, and one that the record of theirs is whole. */
export function testScripts(names: readonly string[]): void {
  let scripts: Scripts;

  beforeAll(async () => {
    scripts = await Scripts.open("ublk-bun", { isShort: !isLong });
  });

  afterAll(() => scripts[Symbol.asyncDispose]());

  test("the record of the kernel's own server knows every script there is", () => {
    expect(Object.keys(theirs.scripts)).toEqual(scripts.names);
  });

  for (const name of names) {
    const expected = (theirs.scripts as Record<string, string>)[name];
    test(
      `${name}: ${expected} with the kernel's own server, and with ours no worse`,
      async () => {
        const { outcome, seconds, output } = await scripts.run(name);
        console.log(`${name} ${outcome} ${seconds} s`);
        // A script that does not apply here proves nothing, unless theirs cannot run it either.
        const isAsGood = outcome === "pass" || (outcome === "skip" && expected === "skip");
        expect(isAsGood, `${name}: ${outcome}\n${output}`).toBe(true);
      },
      TIMEOUT_MS,
    );
  }
}
