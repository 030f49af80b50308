// Ring on the real io_uring of this machine: batches, limits, waiting, registration, disposal.

import { heapStats } from "bun:jsc";
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync, readSync } from "node:fs";

import { KernelError } from "../../src/errors.ts";
import { ERRNO } from "../../src/ffi/errno.ts";
import { close, EFD, eventfd } from "../../src/ffi/libc.ts";
import type { Liburing } from "../../src/ffi/liburing.ts";
import { mapMemory } from "../../src/ffi/memory.ts";
import { IORING_OP, IORING_SETUP, IOSQE } from "../../src/ffi/uring.ts";
import {
  addFlags,
  prepCancel,
  prepNop,
  prepPollAdd,
  prepUringCmd,
  setUserData,
} from "../../src/ring/ops.ts";
import type { OnCompletion, Ring } from "../../src/ring/ring.ts";
import { complete, DATA, liburing, openRing, reapAll } from "./support.ts";

const POLLIN = 1;

/** Takes an entry for a NOP; returns where it is. */
function nop(ring: Ring, lo: number, hi = 0): number {
  const at = ring.sqe();
  prepNop(ring.sqes, at);
  setUserData(ring.sqes, at, lo, hi);
  return at;
}

function ringMappings(): number {
  return readFileSync("/proc/self/maps", "utf8").split("anon_inode:[io_uring]").length - 1;
}

/** Completes so many NOPs, 64 at a time. */
function pump(ring: Ring, batches: number, on: OnCompletion): void {
  for (let b = 0; b < batches; b++) {
    for (let n = 0; n < 64; n++) nop(ring, n);
    ring.submitAndWait(64);
    ring.reap(on);
  }
}

describe.each([
  ["64-byte entries, deferred task work", DATA],
  ["64-byte entries", 0],
  ["128-byte entries", IORING_SETUP.SQE128],
])("a ring with %s", (_name, flags) => {
  test("completes a batch of NOPs in order, user_data untouched", () => {
    using ring = openRing({ flags });
    for (let n = 0; n < 8; n++) nop(ring, -n, 0x7fff_fff0 + n);
    expect(ring.unsubmitted).toBe(8);
    expect(ring.submitAndWait(8)).toBe(8);
    expect(ring.unsubmitted).toBe(0);
    const expected = Array.from({ length: 8 }, (_, n) => [0 - n, 0x7fff_fff0 + n, 0, 0]);
    expect(reapAll(ring)).toEqual(expected as never);
    expect(reapAll(ring)).toEqual([]);
  });

  test("submits by itself when the submission queue is full", () => {
    using ring = openRing({ flags });
    for (let n = 0; n < 20; n++) nop(ring, n);
    expect(ring.unsubmitted).toBe(4);
    expect(complete(ring, 20).map(([lo]) => lo)).toEqual(Array.from({ length: 20 }, (_, n) => n));
  });

  test("goes round its queues many times without a loss", () => {
    using ring = openRing({ flags });
    if (flags === DATA) ring.registerRingFd();
    const count = { taken: 0, seen: 0, wrong: 0 };
    const on = (lo: number, hi: number, result: number): void => {
      if (lo !== count.seen || hi !== ~count.seen || result !== 0) count.wrong++;
      count.seen++;
    };
    while (count.seen < 120_000) {
      for (let n = count.taken % 7; n >= 0; n--, count.taken++) {
        nop(ring, count.taken, ~count.taken);
      }
      ring.submitAndWait(1);
      ring.reap(on);
    }
    expect(count).toEqual({ taken: count.taken, seen: count.taken, wrong: 0 });
    expect(ring.overflow).toBe(0);
  });

  test("overwrites what an earlier operation left in the entry", () => {
    using ring = openRing({ flags });
    ring.sqes.fill(-1);
    for (let n = 0; n < 8; n++) nop(ring, n);
    expect(complete(ring, 8).map(([, , result]) => result)).toEqual(Array(8).fill(0));
  });
});

test("the callback may take and submit entries, even more than fit", () => {
  using ring = openRing({ entries: 4, cqEntries: 64 });
  let spawned = 0;
  for (let n = 0; n < 4; n++) nop(ring, n);
  ring.submitAndWait(4);
  const reaped = ring.reap((lo) => {
    for (let n = 0; n < 5; n++) nop(ring, 100 + lo);
    spawned += 5;
  });
  expect(reaped).toBe(4);
  expect(complete(ring, spawned)).toHaveLength(20);
});

test("completions beyond the completion queue are kept by the kernel", () => {
  using ring = openRing({ entries: 4, cqEntries: 4 });
  for (let n = 0; n < 64; n++) nop(ring, n);
  ring.submit();
  expect(complete(ring, 64).map(([lo]) => lo)).toEqual(Array.from({ length: 64 }, (_, n) => n));
  expect(ring.overflow).toBe(0);
});

test("reapAll() brings what the kernel keeps, without waiting for more", () => {
  // As the control ring is: nobody waits in it.
  using ring = openRing({ entries: 4, cqEntries: 4, flags: IORING_SETUP.SQE128 });
  for (let round = 0; round < 3; round++) {
    for (let n = 0; n < 64; n++) nop(ring, n);
    ring.submit();
    const found: number[] = [];
    ring.reapAll((lo) => found.push(lo));
    expect(found).toEqual(Array.from({ length: 64 }, (_, n) => n));
  }
});

test("reaping and waiting inside reap() are refused", () => {
  using ring = openRing();
  nop(ring, 1);
  ring.submitAndWait(1);
  let caught: unknown;
  ring.reap(() => {
    try {
      ring.submitAndWait(1);
    } catch (error) {
      caught = error;
    }
  });
  expect(String(caught)).toContain("nobody waits while completions are reaped");
});

test("a wait ends at its timeout, and with nothing to submit submit() enters no kernel", () => {
  using ring = openRing();
  const begin = Bun.nanoseconds();
  expect(ring.submitAndWait(1, 20_000_000)).toBe(-ERRNO.ETIME);
  expect(Bun.nanoseconds() - begin).toBeGreaterThan(19_000_000);
  expect(ring.submit()).toBe(0);
  nop(ring, 7);
  expect(ring.submitAndWait(2, 1_000_000)).toBe(1);
  expect(reapAll(ring)).toEqual([[7, 0, 0, 0]]);
  expect(ring.submitAndWait(0)).toBe(0);
});

test("an operation is cancelled by its user_data", () => {
  using ring = openRing();
  const fd = eventfd(0, EFD.CLOEXEC);
  let at = ring.sqe();
  prepPollAdd(ring.sqes, at, fd, POLLIN);
  setUserData(ring.sqes, at, 5, -6);
  at = ring.sqe();
  prepCancel(ring.sqes, at, 5, -6);
  setUserData(ring.sqes, at, 9, 0);
  at = ring.sqe();
  prepCancel(ring.sqes, at, 1, 1);
  setUserData(ring.sqes, at, 10, 0);
  const results = new Map(complete(ring, 3).map(([lo, , result]) => [lo, result]));
  close(fd);
  expect(Object.fromEntries(results)).toEqual({ 5: -ERRNO.ECANCELED, 9: 0, 10: -ERRNO.ENOENT });
});

test("a registered eventfd counts completions", () => {
  using ring = openRing({ flags: IORING_SETUP.SQE128 });
  const fd = eventfd(0, EFD.CLOEXEC | EFD.NONBLOCK);
  ring.registerEventfd(fd);
  for (let n = 0; n < 3; n++) nop(ring, n);
  ring.submit();
  const count = Buffer.alloc(8);
  expect(readSync(fd, count)).toBe(8);
  expect(Number(count.readBigUInt64LE())).toBeGreaterThan(0);
  expect(reapAll(ring)).toHaveLength(3);
  close(fd);
});

test("completions posted by a kernel worker thread arrive, with and without a wait", () => {
  using ring = openRing({ flags: IORING_SETUP.SQE128, entries: 32, cqEntries: 64 });
  for (let round = 0; round < 200; round++) {
    for (let n = 0; n < 32; n++) {
      addFlags(ring.sqes, nop(ring, n), IOSQE.ASYNC);
    }
    expect(complete(ring, 32)).toHaveLength(32);
  }
});

test("a command's entry holds its payload and zeroes, whatever was there", () => {
  using ring = openRing({ flags: IORING_SETUP.SQE128 });
  ring.sqes.fill(-1);
  // More than fit, so that some are taken from a full queue.
  for (let n = 0; n < 20; n++) {
    const at = ring.sqe();
    prepUringCmd(ring.sqes, at, -1, 0xc020_7504);
    setUserData(ring.sqes, at, n, 2);
    const expected = Array(32).fill(0);
    expected.splice(0, 3, IORING_OP.URING_CMD, -1, 0xc020_7504 | 0);
    expected.splice(8, 2, n, 2);
    expect([...ring.sqes.subarray(at, at + 32)]).toEqual(expected);
    ring.sqes.fill(-1, at + 16, at + 32);
  }
  expect(complete(ring, 20).map(([, , result]) => result)).toEqual(Array(20).fill(-ERRNO.EBADF));
});

test("files, sparse buffers and buffer rings are registered; a wrong one says why", () => {
  using ring = openRing();
  ring.registerFiles([0, 1, -1]);
  ring.setFile(2, 0);
  expect(() => ring.setFile(3, 0)).toThrow(/register file 3 with io_uring: EINVAL/);
  expect(() => ring.setFile(2, 1_000_000)).toThrow(/register file 2 with io_uring: EBADF/);
  ring.registerBuffersSparse(16);
  using memory = mapMemory(4096);
  ring.registerBufferRing({ group: 3, entries: 8, address: memory.address });
  expect(() => ring.registerEventfd(-1)).toThrow(/register an eventfd with io_uring: EBADF/);
  ring[Symbol.dispose]();
});

test("a ring that cannot be says why and what to do", () => {
  let error: unknown;
  try {
    openRing({ entries: 1 << 20, cqEntries: 1 << 21 });
  } catch (caught) {
    error = caught;
  }
  expect(error).toBeInstanceOf(KernelError);
  expect(error).toMatchObject({ errno: ERRNO.EINVAL, exitCode: 4 });
  expect(String(error)).toContain("1048576 submissions and 2097152 completions: EINVAL");
});

test.each([
  [ERRNO.EPERM, 4, "kernel.io_uring_disabled"],
  [ERRNO.ENOSYS, 4, "no io_uring"],
  [ERRNO.ENOMEM, 1, "ulimit -l"],
])(
  "set-up refused with errno %d ends with exit code %d and a hint: %s",
  (errno, exitCode, hint) => {
    const refusing = { ...liburing, io_uring_queue_init_params: () => -errno } as Liburing;
    let error: unknown;
    try {
      openRing({ library: refusing });
    } catch (caught) {
      error = caught;
    }
    expect(error).toMatchObject({ errno, exitCode, hint: expect.stringContaining(hint) });
  },
);

test("disposal closes the descriptor and leaves no mapping", () => {
  const before = ringMappings();
  const ring = openRing();
  ring.registerRingFd();
  const { fd } = ring;
  expect(readlinkSync(`/proc/self/fd/${fd}`)).toBe("anon_inode:[io_uring]");
  expect(ringMappings()).toBeGreaterThan(before);
  ring[Symbol.dispose]();
  ring[Symbol.dispose]();
  expect(ringMappings()).toBe(before);
  expect(() => readlinkSync(`/proc/self/fd/${fd}`)).toThrow();
});

test("200 rings one after the other leave nothing behind", () => {
  const before = [ringMappings(), readdirSync("/proc/self/fd").length];
  for (let n = 0; n < 200; n++) {
    using ring = openRing();
    nop(ring, n);
    expect(complete(ring, 1)[0]![0]).toBe(n);
  }
  expect([ringMappings(), readdirSync("/proc/self/fd").length]).toEqual(before);
});

test("a million NOPs allocate nothing", () => {
  using ring = openRing({ entries: 64, cqEntries: 128 });
  ring.registerRingFd();
  let seen = 0;
  const on = (): void => {
    seen = (seen + 1) | 0;
  };
  pump(ring, 5_000, on);
  Bun.gc(true);
  const before = heapStats();
  pump(ring, 16_000, on);
  const after = heapStats();
  expect(seen).toBe(21_000 * 64);
  expect(after.objectCount - before.objectCount).toBeLessThan(2000);
  expect(after.heapSize - before.heapSize).toBeLessThan(1 << 20);
});
