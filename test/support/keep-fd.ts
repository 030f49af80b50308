// Takes a copy of another process's descriptor of a file and keeps it until stdin ends: what a child
// that inherited it would do.   bun keep-fd.ts PID PATH

import { dlopen } from "bun:ffi";
import { readdirSync, readlinkSync } from "node:fs";

/** x86-64 and arm64 alike. */
const PIDFD_OPEN = 434;
const PIDFD_GETFD = 438;

const { symbols: C } = dlopen("libc.so.6", {
  syscall: { args: ["i64", "i64", "i64", "i64"], returns: "i64" },
});

const [pid = "", path = ""] = process.argv.slice(2);
const folder = `/proc/${pid}/fd`;
const fd = readdirSync(folder).find((name) => readlinkSync(`${folder}/${name}`) === path);
if (fd === undefined) throw new Error(`pid ${pid} does not have ${path} open`);
const pidfd = C.syscall(PIDFD_OPEN, Number(pid), 0, 0);
const copy = C.syscall(PIDFD_GETFD, pidfd, Number(fd), 0);
if (Number(copy) < 0) throw new Error("pidfd_getfd failed");
process.stdout.write("held\n");
for await (const _ of process.stdin);
