// sd_notify and the unit: what systemd hears, and what it reads.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { notifyManager } from "../../src/device/notify.ts";
import { deathOf, statusText } from "../../src/device/server-death.ts";
import { installUnit, UNIT_NAME, unitText } from "../../src/device/unit.ts";
import { close, pidfd_open, pidfdExitStatus } from "../../src/ffi/libc.ts";
import { DatagramSocket } from "../support/datagram.ts";
import { run } from "../support/run.ts";

let dir = "";
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "ublk-notify-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

test.each(["a path", "an abstract name"])("a message reaches %s", (kind) => {
  const name = kind === "a path" ? join(dir, "socket") : `@ublk-bun-test-${process.pid}`;
  using socket = new DatagramSocket(name);
  expect(notifyManager({ READY: "1", STATUS: "2 servers are watched" }, name)).toBeTrue();
  expect(socket.receive()).toBe("READY=1\nSTATUS=2 servers are watched\n");
});

test("a manager that does not read keeps nobody waiting", () => {
  const name = join(dir, "socket");
  using socket = new DatagramSocket(name);
  let sent = 0;
  while (sent < 10_000 && notifyManager({ STATUS: `${sent} servers are watched` }, name)) sent++;
  expect(sent).toBeLessThan(10_000);
  expect(socket.receive()).toBe("STATUS=0 servers are watched\n");
});

test("without a manager, or one that is gone, nothing is said", () => {
  expect(notifyManager({ READY: "1" }, undefined)).toBeFalse();
  expect(notifyManager({ READY: "1" }, join(dir, "nobody"))).toBeFalse();
  expect(notifyManager({ READY: "1" }, "relative")).toBeFalse();
  expect(notifyManager({ READY: "1" }, `/${"x".repeat(120)}`)).toBeFalse();
});

const options = { program: [process.execPath], words: [], runDir: "/run/ublk-bun" };

test.each([
  ["as it is", options],
  ["with words to quote", { ...options, words: ["--liburing=/a b/$x 100%", '--run-dir=/r"q'] }],
  ["with another run folder", { ...options, runDir: "/var/lib/disks" }],
])("systemd-analyze accepts the unit %s", async (_name, wanted) => {
  const file = join(dir, UNIT_NAME);
  writeFileSync(file, unitText(wanted), { mode: 0o644 });
  expect(await run(["systemd-analyze", "verify", "--man=no", file])).toBe("");
});

test("systemd-analyze is not content with just anything", async () => {
  const file = join(dir, UNIT_NAME);
  writeFileSync(file, unitText({ ...options, program: ["/no/such/program"] }));
  await expect(run(["systemd-analyze", "verify", "--man=no", file])).rejects.toThrow(
    "/no/such/program",
  );
});

test("the unit keeps servers and records alive when watch ends", () => {
  const lines = unitText({ ...options, words: ["--on-giveup=stop"] }).split("\n");
  expect(lines).toContain(`ExecStart=${process.execPath} watch --on-giveup=stop`);
  for (const line of [
    "Type=notify",
    "Restart=always",
    "KillMode=process",
    "OOMPolicy=continue",
    "OOMScoreAdjust=-1000",
    "PrivateMounts=yes",
    "RuntimeDirectory=ublk-bun",
    "RuntimeDirectoryPreserve=yes",
    "MemoryDenyWriteExecute=no",
  ]) {
    expect(lines).toContain(line);
  }
  const elsewhere = unitText({ ...options, runDir: "/srv/disks" });
  expect(elsewhere).not.toContain("RuntimeDirectory");
  expect(elsewhere).toContain("RequiresMountsFor=/srv/disks");
});

test("a unit that says something else is only overwritten by --force", () => {
  const path = join(dir, UNIT_NAME);
  expect(installUnit("one\n", { dir, force: false })).toBeTrue();
  expect(installUnit("one\n", { dir, force: false })).toBeFalse();
  expect(statSync(path).mode & 0o777).toBe(0o644);
  expect(() => installUnit("two\n", { dir, force: false })).toThrow("says something else");
  expect(readFileSync(path, "utf8")).toBe("one\n");
  expect(installUnit("two\n", { dir, force: true })).toBeTrue();
  expect(readFileSync(path, "utf8")).toBe("two\n");
});

test("how a process has ended is told in words", async () => {
  expect(statusText(9)).toBe("SIGKILL");
  expect(statusText(0x8b)).toBe("SIGSEGV");
  expect(statusText(70 << 8)).toBe("exit code 70");
  const child = Bun.spawn(["sleep", "60"]);
  const pidfd = pidfd_open(child.pid, 0);
  // ESRCH while it lives; ENOTTY or EINVAL where the kernel cannot tell.
  expect([-3, -25, -22]).toContain(pidfdExitStatus(pidfd));
  child.kill("SIGKILL");
  await child.exited;
  expect([9, -3, -25, -22]).toContain(pidfdExitStatus(pidfd));
  close(pidfd);
});

test("a process that serves nothing is nobody's server", () => {
  const control = { whenReady: () => expect.unreachable() } as never;
  expect(deathOf(control, process.pid, 1_000_000)).toBeUndefined();
  expect(deathOf(control, 2 ** 22 + 1, 0)).toBeUndefined();
});
