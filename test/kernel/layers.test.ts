// A disk of ours on a disk of ours: it serves, waits while the one below has no server, and outlives it.

import { afterEach, expect, test } from "bun:test";

import { ddWords, inFlight, start, startUblk, untilInFlight } from "../support/crash.ts";
import { leftovers, run, runOk, TestDevice, ublkOk, until } from "../support/program.ts";
import { torture } from "../support/torture/torture.ts";
import { verifyThroughDeaths } from "../support/torture/verified.ts";

const KILLS = 1;

afterEach(() => expect(leftovers()).toEqual([]));

test("verified writes go on while the servers of both die and are recovered", async () => {
  await using below = await TestDevice.add("mem", "-n0", "-q2", "--size=16MiB");
  await using above = await TestDevice.add("loop", "-n1", "-q2", "-f", below.path);
  await verifyThroughDeaths(above, torture(KILLS), { dying: below });
  await verifyThroughDeaths(above, torture(KILLS));
  await runOk("cmp", above.path, below.path);
});

test("both servers dead at once: recovered in any order, what waited ends, and nothing hangs", async () => {
  await using below = await TestDevice.add("mem", "-n0", "--size=16MiB");
  await using above = await TestDevice.add("loop", "-n1", "-f", below.path);
  const pid = await above.serverPid();
  await below.killServer();
  await using waiting = start(...ddWords(above.path, 3, "write"));
  await untilInFlight(above.id, 1);
  process.kill(pid, "SIGKILL");
  // The dead server ends with its own request to the disk below, and the new one looks at that disk: both
  // wait for the other recover, whichever comes first.
  await using early = startUblk("recover", "1", "--timeout", "2m");
  await ublkOk("recover", "0");
  const { exitCode, stderr } = await early.ended;
  expect({ exitCode, stderr }).toEqual({
    exitCode: 0,
    stderr: expect.stringMatching(/^(.*waiting: .*\n)?$/),
  });
  expect(await waiting.ended).toMatchObject({ exitCode: 0, stderr: "" });
  expect(inFlight(above.id) + inFlight(below.id)).toBe(0);
});

test("the disk below is removed by force: EIO above, whose server lives", async () => {
  await using below = await TestDevice.add("mem", "-n0", "--size=16MiB");
  await using above = await TestDevice.add("loop", "-n1", "-f", below.path);
  const pid = await above.serverPid();
  await ublkOk("del", "0", "--force");
  for (const direction of ["read", "write"] as const) {
    const { exitCode, stderr } = await run(ddWords(above.path, 3, direction));
    expect(stderr).toContain("Input/output error");
    expect(exitCode).toBe(1);
  }
  expect(await above.serverPid()).toBe(pid);
  await ublkOk("del", "1");
  await until("the disk below is gone", () => leftovers().length === 0);
});
