// What a script's end means.

import { expect, test } from "bun:test";

import { judge } from "./outcome.ts";

const end = { exitCode: 0, output: "null_01 : [PASS]", problems: [], left: [] };

test("a script passes only where nothing speaks against it", () => {
  expect(judge(end)).toBe("pass");
  expect(judge({ ...end, exitCode: 255 })).toBe("fail");
  expect(judge({ ...end, exitCode: 137 })).toBe("fail");
  expect(judge({ ...end, left: ["device 0"] })).toBe("fail");
  expect(judge({ ...end, problems: ["BUG: a bug"] })).toBe("fail");
});

test("a step in the background that failed is a failure, whatever the exit status", () => {
  for (const said of [
    "stress_01 : [FAIL]\nstress_01 : [PASS]",
    "/dev/ublkc3 isn't removed res ",
    "device isn't quiesced(LIVE) after kill_daemon",
    "delete dev 2 failed",
  ]) {
    expect(judge({ ...end, output: said })).toBe("fail");
  }
});

test("skipped is what says so; what ublk-bun lacks is not skipped", () => {
  expect(judge({ ...end, exitCode: 4 })).toBe("skip");
  expect(judge({ ...end, exitCode: 4, problems: ["WARNING: something"] })).toBe("fail");
  const output = "kublk: ublk-bun has no --batch yet\nbatch_01 : [FAIL]";
  expect(judge({ ...end, exitCode: 255, output })).toBe("lacks");
});
