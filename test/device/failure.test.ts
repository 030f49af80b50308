// What is told of a server that has ended before its launcher was done with it.

import { expect, test } from "bun:test";

import { type Daemon, failure } from "../../src/device/launch.ts";

const daemon = { process: { signalCode: "SIGKILL", exitCode: null }, log: -1, logBegan: 0 };
const told = (report: Parameters<typeof failure>[0], verb: "add" | "recover") => {
  const { message, hint } = failure(report, { verb }, daemon as unknown as Daemon);
  return [message, hint];
};

test("one that died while it was starting may have begun to serve", () => {
  const died = "The server process died while it was starting: SIGKILL";
  expect(told(undefined, "recover")).toEqual([died, "what became of its disk: ublk-bun list"]);
  expect(told(undefined, "add")).toEqual([died, "nothing is left of it"]);
});

test("one that served before it ended has served", () => {
  expect(told({ kind: "live", id: 0 }, "recover")).toEqual([
    "The server process served, and has ended before its disk was read: SIGKILL",
    "what became of its disk: ublk-bun list",
  ]);
});
