// The kernel's own test scripts with our server in place of theirs: what passes with theirs passes
// with ours. Only on the kernel that the scripts belong to, in a guest of its own: see suite.ts.

import { afterAll, beforeAll, expect, test } from "bun:test";

import { isLong } from "../support/long.ts";
import { Scripts } from "../support/selftests/scripts.ts";
import theirs from "../support/selftests/theirs.json";

const SCRIPTS = [
  ..."null_01 null_02 null_03".split(" "),
  ..."loop_01 loop_02 loop_03 loop_04 loop_05 loop_06 loop_07 loop_08".split(" "),
  ..."stripe_01 stripe_02 stripe_03 stripe_04 stripe_05 stripe_06".split(" "),
  ..."generic_03 generic_07 generic_08 generic_09 generic_10 generic_13".split(" "),
  ..."generic_16 generic_17".split(" "),
  // Not generic_06: it gives a server two seconds from its start to be listed twice and killed, which an
  // emulated machine does not always manage. By hand: npm run selftests -- generic_06
];
const TIMEOUT_MS = 1_200_000;

let scripts: Scripts;

beforeAll(async () => {
  scripts = await Scripts.open("ublk-bun", { isShort: !isLong });
});

afterAll(() => scripts[Symbol.asyncDispose]());

test("the record of the kernel's own server knows every script there is", () => {
  expect(Object.keys(theirs.scripts)).toEqual(scripts.names);
});

for (const name of SCRIPTS) {
  const expected = (theirs.scripts as Record<string, string>)[name];
  test(
    `${name}: ${expected} with the kernel's own server, and with ours`,
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
