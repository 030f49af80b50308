// Control commands against the real driver, through the Control class itself.

import { afterAll, beforeAll, expect, test } from "bun:test";

import {
  addDev,
  delDev,
  getDevInfo,
  getDevInfo2,
  getParams,
  getQueueAffinity,
  quiesceDev,
  setParams,
  startDev,
  startUserRecovery,
  updateSize,
} from "../../src/control/commands/index.ts";
import { Control } from "../../src/control/control.ts";
import { ERRNO } from "../../src/ffi/errno.ts";
import { liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { UBLK_F } from "../../src/ffi/ublk.ts";
import { TestDevice, ublkOk } from "../support/program.ts";

let control: Control;
let device: TestDevice;

beforeAll(async () => {
  control = await Control.open({
    liburing: loadLiburing(liburingPath()),
    timeoutMs: 60_000,
  });
  device = await TestDevice.add("null", "-n0", "-q2", "--size=1GiB");
});

afterAll(async () => {
  control[Symbol.dispose]();
  await device[Symbol.asyncDispose]();
});

/** The errno and exit code that a command fails with. */
async function failure(running: Promise<unknown>) {
  const error = await running.then(
    () => ({ errno: 0, exitCode: 0, message: "it worked" }),
    (caught: { errno: number; exitCode: number; message: string }) => caught,
  );
  return { errno: error.errno, exitCode: error.exitCode, message: error.message };
}

test("GET_DEV_INFO and GET_DEV_INFO2 tell the same", async () => {
  const info = await control.run(getDevInfo, 0, undefined);
  expect(info).toMatchObject({ id: 0, queues: 2, depth: 128, state: "LIVE" });
  expect(await control.run(getDevInfo2, 0, { charPath: "/dev/ublkc0" })).toEqual(info);
});

test("GET_PARAMS tells what add set, and SET_PARAMS comes too late", async () => {
  const params = await control.run(getParams, 0, undefined);
  expect(params).toMatchObject({ basic_dev_sectors: 2097152n, basic_logical_bs_shift: 9 });
  expect(params.basic_max_sectors).toBe(1024);
  const { errno } = await failure(control.run(setParams, 0, { types: 1 }));
  expect<number[]>([ERRNO.EACCES, ERRNO.EINVAL]).toContain(errno);
});

test("GET_QUEUE_AFFINITY: every CPU belongs to a queue, and there is no third queue", async () => {
  const first = await control.run(getQueueAffinity, 0, { queueId: 0 });
  const second = await control.run(getQueueAffinity, 0, { queueId: 1 });
  expect(first[0]! | second[0]!).toBe(0b11);
  expect(first[0]! & second[0]!).toBe(0);
  expect((await failure(control.run(getQueueAffinity, 0, { queueId: 2 }))).errno).toBe(
    ERRNO.EINVAL,
  );
});

test("a command on a device that is not there is exit 3 and names it", async () => {
  expect(await failure(control.run(getDevInfo, 77, undefined))).toEqual({
    errno: ERRNO.ENODEV,
    exitCode: 3,
    message: "GET_DEV_INFO of device 77 failed: ENODEV: there is no such device",
  });
});

test("START of a live device, and recovery of one, are refused with their reasons", async () => {
  const started = await failure(control.run(startDev, 0, { pid: process.pid }));
  expect<number[]>([ERRNO.EEXIST, ERRNO.EINVAL]).toContain(started.errno);
  const recovered = await failure(control.run(startUserRecovery, 0, undefined));
  expect(recovered).toMatchObject({ errno: ERRNO.EBUSY, exitCode: 5 });
});

test("many commands at once find their own answers", async () => {
  const ids = Array.from({ length: 24 }, (_, i) => (i % 3 === 0 ? 77 : 0));
  const answers = await Promise.all(
    ids.map((id) => control.run(getDevInfo, id, undefined).catch(() => undefined)),
  );
  expect(answers.map((info) => info?.id ?? 77)).toEqual(ids);
});

test("what this kernel does not have is exit 4 and says since when there is", async () => {
  const resized = await failure(control.run(updateSize, 0, { sectors: 1048576n }));
  if (control.features & UBLK_F.UPDATE_SIZE) {
    expect(resized.errno).toBe(0);
    expect((await device.report()).sizeBytes).toBe(512 * 1024 ** 2);
    await control.run(updateSize, 0, { sectors: 2097152n });
  } else {
    expect(resized).toMatchObject({ errno: ERRNO.EOPNOTSUPP, exitCode: 4 });
    expect(resized.message).toContain("6.16");
  }
});

test("QUIESCE_DEV lets the server go, and recover takes over", async () => {
  const quiesced = await failure(control.run(quiesceDev, 0, { timeoutMs: 10_000 }));
  if (!(control.features & UBLK_F.QUIESCE)) {
    expect(quiesced).toMatchObject({ errno: ERRNO.EOPNOTSUPP, exitCode: 4 });
    return;
  }
  expect(quiesced.errno).toBe(0);
  await device.untilState("QUIESCED");
  await ublkOk("recover", "0");
  await device.untilState("LIVE");
});

test("a command that does not end is cancelled at its deadline, with exit 124", async () => {
  // START waits for fetches that nobody sends: only a device without a server shows that.
  const request = { id: 9, queues: 1, depth: 1, ioBufBytes: 4096, flags: 0n, identity: 1n };
  await control.run(addDev, 9, request);
  const basic = { types: 1, basic_logical_bs_shift: 9, basic_physical_bs_shift: 9 };
  const sizes = { basic_io_min_shift: 9, basic_io_opt_shift: 9, basic_max_sectors: 8 };
  await control.run(setParams, 9, { ...basic, ...sizes, basic_dev_sectors: 8n });
  const timedOut = await failure(
    control.run(startDev, 9, { pid: process.pid }, { timeoutMs: 300 }),
  );
  expect(timedOut).toMatchObject({ errno: ERRNO.ETIMEDOUT, exitCode: 124 });
  // At once, when the kernel may not have begun; and while it waits.
  for (const waitMs of [0, 0, 0, 100]) {
    const abort = new AbortController();
    const aborted = control.run(startDev, 9, { pid: process.pid }, { signal: abort.signal });
    if (waitMs > 0) await Bun.sleep(waitMs);
    abort.abort();
    expect((await failure(aborted)).errno).toBe(ERRNO.EINTR);
  }
  await control.run(delDev, 9, undefined);
});
