// What the options that every command has come to.

import { expect, test } from "bun:test";
import { resolve } from "node:path";

import { commonOf } from "../../src/cli/session.ts";

const common = (runDir: string, liburing?: string) =>
  commonOf({ timeout: "5s", "run-dir": runDir, liburing });

test.each([
  "/run/ublk-bun",
  "/run/ublk-bun/",
  "/run//ublk-bun",
  "/run/x/../ublk-bun",
  "/run/./ublk-bun",
  "/run/...",
  "/run/.hidden",
  "/",
  "run",
  "../run/",
  ".",
])("the run folder %s is known by one name", (word) => {
  expect(common(word).store.dir).toBe(resolve(word));
  expect(common("/run", word).liburing).toBe(resolve(word));
});

test("no library is the built-in one", () => expect(common("/run").liburing).toBe(""));
