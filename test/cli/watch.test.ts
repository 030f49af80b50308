// The words of watch, systemd, events, wait and recover --all, which no driver is needed for.

import { expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { EventLog } from "../../src/device/events.ts";

const main = join(import.meta.dir, "../../src/main.ts");

// Each starts the program several times, which takes its time on a busy machine.
setDefaultTimeout(60_000);

function ublk(...words: string[]) {
  const { exitCode, stdout, stderr } = Bun.spawnSync([process.execPath, main, ...words]);
  return { exitCode, stdout: String(stdout), stderr: String(stderr) };
}

test.each([
  [["watch", "--on-giveup=panic"], 'Unknown --on-giveup "panic"'],
  [["watch", "--max-restarts=-1"], '--max-restarts "-1" is not possible'],
  [["watch", "--window=0"], "--window 0 would count no restart"],
  [["systemd", "--backoff=soon"], '--backoff "soon" is not a length of time'],
  [["systemd", "--force"], "--force is given without --install"],
  [["wait", "0", "--state=asleep"], 'Unknown --state "asleep"'],
  [["wait"], "Which device?"],
  [["events", "--since=5m", "--lines=3"], "--since and --lines are given"],
  [["events", "--since=yesterday"], '--since "yesterday" is not a time'],
  [["recover", "--all", "3"], "--all and a device's number are given"],
  [["recover", "--all", "--accept-changes"], "--all and --accept-changes are given"],
  [["recover", "--all", "--foreground"], "--all and --foreground are given"],
])("%j is refused, and nothing is done", (words, message) => {
  const { exitCode, stdout, stderr } = ublk(...words);
  expect(stderr).toContain(message);
  expect({ exitCode, stdout }).toEqual({ exitCode: 2, stdout: "" });
});

test("systemd hands on what differs from the defaults, with paths made absolute", () => {
  const { stdout } = ublk("systemd", "--max-restarts=3", "--window=2m", "--run-dir=x");
  const run = join(process.cwd(), "x");
  expect(stdout).toContain(` watch --max-restarts=3 --run-dir=${run}\n`);
});

test("events prints what was, of one device or all, the last ones or since then", () => {
  const dir = mkdtempSync(join(tmpdir(), "ublk-events-"));
  try {
    const log = new EventLog(dir);
    const hour = 3_600_000;
    log.add("added", { id: 0, target: "null", at: Date.now() - hour });
    log.add("live", { id: 1, target: "null", at: Date.now() - hour / 2 });
    log.add("died", { id: 0, target: "null" });
    const names = (...words: string[]) =>
      ublk("events", ...words, "--run-dir", dir)
        .stdout.split("\n")
        .filter(Boolean)
        .map((line) => JSON.parse(line).event);
    expect(names()).toEqual(["added", "live", "died"]);
    expect(names("0")).toEqual(["added", "died"]);
    expect(names("--lines=2")).toEqual(["live", "died"]);
    expect(names("--lines=9")).toEqual(["added", "live", "died"]);
    expect(names("--lines=0")).toEqual([]);
    expect(names("--since=45m")).toEqual(["live", "died"]);
    expect(names("--since", new Date(Date.now() - 60_000).toISOString())).toEqual(["died"]);
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("events --follow goes on across a rotation, and ends with its reader", async () => {
  const dir = mkdtempSync(join(tmpdir(), "ublk-events-"));
  const child = Bun.spawn([process.execPath, main, "events", "-f", "--run-dir", dir], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  try {
    const log = new EventLog(dir);
    const reader = child.stdout.getReader();
    const decoder = new TextDecoder();
    let text = "";
    const until = async (id: number) => {
      while (!text.includes(`"id":${id},`)) {
        const { done, value } = await reader.read();
        expect(done).toBeFalse();
        text += decoder.decode(value, { stream: true });
      }
    };
    log.add("added", { id: 0, target: "null" });
    await until(0);
    for (let id = 1; id <= 5000; id++) log.add("died", { id, target: "null", how: "z".repeat(60) });
    await until(5000);
    const ids = text
      .split("\n")
      .filter(Boolean)
      .map((line) => JSON.parse(line).id);
    expect(ids).toEqual(Array.from({ length: 5001 }, (_, id) => id));
    await reader.cancel();
    // It hears of its reader's end when it has something to say.
    const ended = child.exited;
    while ((await Promise.race([ended, Bun.sleep(20)])) === undefined) {
      log.add("died", { id: 1, target: "null" });
    }
    expect(await ended).toBe(0);
  } finally {
    child.kill();
    rmSync(dir, { recursive: true });
  }
});
