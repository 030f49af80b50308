// The kernel frees an id and only then wakes who waits in DEL_DEV for that: another device may have got the
// id meanwhile, and DEL_DEV then waits for that one's end. `del` must not.
//
// The helper is made slow, but the kernel cannot be made to lose that race each time: this has passed without
// the look at the identity, too. What it always shows is that the other device is left alone.

import { afterEach, expect, test } from "bun:test";
import { existsSync, readdirSync } from "node:fs";

import { addDev, delDev, getDevInfo } from "../../src/control/commands/index.ts";
import { Control } from "../../src/control/control.ts";
import { KernelError } from "../../src/errors.ts";
import { liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { start, startUblk } from "../support/crash.ts";
import { holdCharDevice } from "../support/hold.ts";
import { leftovers, runOk, serverPids, ublk, ublkOk, until } from "../support/program.ts";

afterEach(() => expect(leftovers()).toEqual([]));

const OTHER = { id: 0, queues: 1, depth: 1, ioBufBytes: 4096, flags: 0n, identity: 77n };

/** The process that waits in DEL_DEV. */
function helperPid(): number {
  const { stdout } = Bun.spawnSync(["pgrep", "-f", "__send commands 0"]);
  return Number(stdout.toString().split("\n")[0]);
}

/** Makes another device 0 in the moment in which the id is free. */
async function takeId(control: Control): Promise<void> {
  for (;;) {
    try {
      await control.run(addDev, 0, OTHER);
      return;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
    }
  }
}

test("del ends although its id has another device before it looks again", async () => {
  using control = await Control.open({
    liburing: loadLiburing(liburingPath()),
    timeoutMs: 60_000,
  });
  await ublkOk("add", "null", "-n0");
  await using holder = await holdCharDevice(serverPids(0)[0]!, 0);
  await using del = startUblk("del", "0", "--timeout=2m");
  await until("DEL_DEV waits", () => helperPid() > 0 && !existsSync("/sys/class/ublk-char/ublkc0"));
  // Whoever has the CPUs is quicker than the helper.
  for (const thread of readdirSync(`/proc/${helperPid()}/task`)) {
    await runOk("chrt", "--idle", "--pid", "0", thread);
  }
  await using one = start("sh", "-c", "while :; do :; done");
  await using two = start("sh", "-c", "while :; do :; done");
  const taken = takeId(control);
  await holder.release();
  await taken;
  one.kill("SIGKILL");
  two.kill("SIGKILL");
  expect(await del.ended).toMatchObject({ exitCode: 0, stderr: "" });
  // It was another one's, and still is.
  expect(await control.run(getDevInfo, 0, undefined)).toMatchObject({ identity: 77n });
  expect((await ublk("del", "0")).exitCode).toBe(6);
  await control.run(delDev, 0, undefined);
});
