// liburing.so.2: where it comes from, and its functions as a dlopen table.

import { dlopen } from "bun:ffi";

import embedded from "../../dist/liburing.so.2" with { type: "file" };
import { readFileSync, writeSync } from "../builtin.ts";
import { EXIT, KernelError, messageOf, UblkError } from "../errors.ts";
import { errnoName } from "./errno.ts";
import { layout } from "./layout.ts";
import { memfd_create, MFD } from "./libc.ts";

/** liburing's functions; they return a value or a negative errno. */
export type Liburing = ReturnType<typeof open>;

/**
 * `struct io_uring` of liburing.h, the same since 2.2: what is read of it. Where things are in the
 * rings comes from `io_uring_params`.
 */
export const io_uring = layout(216, {
  sq_sqes: ["u64", 56],
  sq_ring_sz: ["u64", 72],
  sq_ring_ptr: ["u64", 80],
  cq_cqes: ["u64", 152],
  cq_ring_sz: ["u64", 160],
  cq_ring_ptr: ["u64", 168],
  flags: ["u32", 192],
  ring_fd: ["s32", 196],
  features: ["u32", 200],
  enter_ring_fd: ["s32", 204],
});

/**
 * Loads liburing in the calling thread; every Worker does so for itself, from the same path. The
 * functions used are all in 2.3 (Debian 12).
 * @throws UblkError if the file is missing, is no library, or is too old.
 */
export function loadLiburing(path: string): Liburing {
  try {
    return open(path);
  } catch (cause) {
    const reason = messageOf(cause);
    throw new UblkError(`Cannot load liburing "${path}": ${reason}`, {
      exitCode: EXIT.notSupported,
      hint: "give a liburing.so.2 of version 2.3 or newer, or none to use the built-in one",
      cause,
    });
  }
}

/**
 * The path to load liburing from: `override` (--liburing, UBLK_BUN_LIBURING), else the built-in
 * library. Call it once, in the main thread; the path is good for every Worker.
 * @throws KernelError if the built-in library finds no place in memory.
 */
export function liburingPath(override?: string): string {
  return override ?? embedLiburing(embedded);
}

/**
 * Copies a library into memory that has a path, so that it loads where no folder is writable or
 * executable. The descriptor stays open for the life of the process.
 * @throws KernelError if memfd_create(2) fails.
 */
export function embedLiburing(file: string): string {
  const name = "liburing.so.2";
  // MFD_EXEC came with Linux 6.3, older kernels refuse it; all their memfds are executable.
  let fd = memfd_create(name, MFD.CLOEXEC | MFD.EXEC);
  if (fd < 0) fd = memfd_create(name, MFD.CLOEXEC);
  if (fd < 0) {
    const message = `Cannot hold liburing in memory: memfd_create: ${errnoName(-fd)}`;
    throw new KernelError(message, -fd, {
      exitCode: EXIT.notSupported,
      hint: "set the sysctl vm.memfd_noexec to 0 or 1, or give a library with --liburing PATH",
    });
  }
  const bytes = readFileSync(file);
  for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
  return `/proc/self/fd/${fd}`;
}

function open(path: string) {
  // The last argument of io_uring_enter is a pointer, always NULL here: as a u32 it costs nothing,
  // as a "ptr" 3 ns.
  return dlopen(path, {
    io_uring_queue_init_params: { args: ["u32", "ptr", "ptr"], returns: "i32" }, // entries, ring, p
    io_uring_queue_exit: { args: ["ptr"], returns: "void" }, // ring
    io_uring_register_ring_fd: { args: ["ptr"], returns: "i32" }, // ring
    io_uring_unregister_ring_fd: { args: ["ptr"], returns: "i32" }, // ring
    io_uring_register_files: { args: ["ptr", "ptr", "u32"], returns: "i32" }, // ring, files, nr
    // ring, position, files, nr
    io_uring_register_files_update: { args: ["ptr", "u32", "ptr", "u32"], returns: "i32" },
    io_uring_register_eventfd: { args: ["ptr", "i32"], returns: "i32" }, // ring, fd
    io_uring_register_buffers_sparse: { args: ["ptr", "u32"], returns: "i32" }, // ring, nr
    io_uring_register_buf_ring: { args: ["ptr", "ptr", "u32"], returns: "i32" }, // ring, reg, flags
    // fd, opcode, arg, nr_args
    io_uring_register: { args: ["u32", "u32", "ptr", "u32"], returns: "i32" },
    // fd, to_submit, min_complete, flags, sig
    io_uring_enter: { args: ["u32", "u32", "u32", "u32", "u32"], returns: "i32" },
    // fd, to_submit, min_complete, flags, arg, sz
    io_uring_enter2: { args: ["u32", "u32", "u32", "u32", "ptr", "u32"], returns: "i32" },
  }).symbols;
}
