// A kernel log's complaints are found, and ordinary lines are left alone.

import { expect, test } from "bun:test";

import { kernelProblems } from "./kernel-log.ts";

test("bugs, warnings, stuck tasks and panics are problems", () => {
  const problems = [
    "[ 1.0] BUG: kernel NULL pointer dereference, address: 0000000000000008",
    "[ 1.1] WARNING: CPU: 0 PID: 1 at block/genhd.c:1 del_gendisk+0x1/0x2",
    "[ 1.2] Oops: 0002 [#1] PREEMPT SMP",
    "[ 1.3] INFO: task fio:12 blocked for more than 120 seconds.",
    "[ 1.4] refcount_t: underflow; use-after-free.",
    "[ 1.5] Kernel panic - not syncing: Fatal exception",
    "[ 1.6] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
  ];
  expect(kernelProblems(problems.join("\r\n"))).toEqual(problems);
});

test("a quiet log has none", () => {
  expect(kernelProblems("[ 0.0] Linux version 7.3\n[ 0.1] DEBUG: fine\nwarnings: 0\n")).toEqual([]);
});

test("one warning of 6.12 is known, there alone and of that function alone", () => {
  const known =
    "[ 224.1] WARNING: CPU: 0 PID: 324 at drivers/block/ublk_drv.c:1582 ublk_ch_uring_cmd+0xbe/0x1d0 [ublk_drv]";
  const other = known.replace("ublk_ch_uring_cmd", "ublk_ch_release");
  const old = "[ 0.0] Linux version 6.12.95+deb13-amd64 (Debian)";
  expect(kernelProblems([old, known].join("\n"))).toEqual([]);
  expect(kernelProblems([old, known, other].join("\n"))).toEqual([other]);
  expect(kernelProblems(["[ 0.0] Linux version 7.3.4 (Debian)", known].join("\n"))).toEqual([
    known,
  ]);
});
