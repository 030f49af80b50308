// Whether a process listens on a socket: only while it lives, and without a word to it.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { isListenedTo } from "../../src/device/unix-socket.ts";

const folder = mkdtempSync(join(tmpdir(), "unix-socket-"));
afterAll(() => rmSync(folder, { recursive: true }));

test("a socket is listened to until its process ends", async () => {
  const path = join(folder, "ear");
  const code = `Bun.listen({ unix: "${path}", socket: { data() {} } }); console.log("hears");`;
  const child = Bun.spawn([process.execPath, "-e", code], { stdout: "pipe", stdin: "ignore" });
  await child.stdout.getReader().read();
  expect([isListenedTo(path), isListenedTo(path)]).toEqual([true, true]);
  child.kill("SIGSTOP");
  expect(isListenedTo(path)).toBe(true);
  child.kill("SIGKILL");
  await child.exited;
  expect(isListenedTo(path)).toBe(false);
});

test("nobody listens where there is nothing, a file, or too long a path", () => {
  writeFileSync(join(folder, "file"), "");
  for (const path of [
    join(folder, "nothing"),
    join(folder, "file"),
    `/${"x".repeat(200)}`,
    "rel",
  ]) {
    expect({ path, is: isListenedTo(path) }).toEqual({ path, is: false });
  }
});
