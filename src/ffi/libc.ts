// The C library's calls that Bun has no API for; each returns a value or a negative errno.
/* oxlint-disable no-underscore-dangle -- C names stay as they are */

import { dlopen, type FFIFunction, FFIType, type Pointer, toArrayBuffer } from "bun:ffi";

import { EXIT, messageOf, UblkError } from "../errors.ts";

// Variadic functions (open, ioctl, fcntl, prctl, syscall) take these arguments in the same
// registers as others do, on x86-64 and arm64. An address is a "ptr": numbers pass without BigInt.
const C = load({
  __errno_location: { args: [], returns: "ptr" },
  open: { args: ["ptr", "i32", "u32"], returns: "i32" }, // pathname, flags, mode
  close: { args: ["i32"], returns: "i32" }, // fd
  // An offset is a "ptr": a number below 2^53 costs nothing that way, a BigInt 20 ns.
  pread: { args: ["i32", "ptr", "u32", "ptr"], returns: "i32" }, // fd, buf, count, offset
  pwrite: { args: ["i32", "ptr", "u32", "ptr"], returns: "i32" }, // fd, buf, count, offset
  read: { args: ["i32", "ptr", "u32"], returns: FFIType.i64_fast }, // fd, buf, count
  write: { args: ["i32", "ptr", "u32"], returns: FFIType.i64_fast }, // fd, buf, count
  lseek: { args: ["i32", "i64", "i32"], returns: FFIType.i64_fast }, // fd, offset, whence
  dup2: { args: ["i32", "i32"], returns: "i32" }, // oldfd, newfd
  pipe2: { args: ["ptr", "i32"], returns: "i32" }, // pipefd, flags
  fcntl: { args: ["i32", "i32", "i32"], returns: "i32" }, // fd, cmd, arg
  flock: { args: ["i32", "i32"], returns: "i32" }, // fd, operation
  ioctl: { args: ["i32", "u32", "ptr"], returns: "i32" }, // fd, request, argp
  eventfd: { args: ["u32", "i32"], returns: "i32" }, // initval, flags
  socket: { args: ["i32", "i32", "i32"], returns: "i32" }, // domain, type, protocol
  // sockfd, buf, len, flags, dest_addr, addrlen
  sendto: { args: ["i32", "ptr", "u32", "i32", "ptr", "u32"], returns: FFIType.i64_fast },
  connect: { args: ["i32", "ptr", "u32"], returns: "i32" }, // sockfd, addr, addrlen
  memfd_create: { args: ["ptr", "u32"], returns: "i32" }, // name, flags
  // addr, length, prot, flags, fd, offset
  mmap: { args: ["ptr", "ptr", "i32", "i32", "i32", "i64"], returns: FFIType.i64_fast },
  munmap: { args: ["ptr", "ptr"], returns: "i32" }, // addr, length
  madvise: { args: ["ptr", "ptr", "i32"], returns: "i32" }, // addr, length, advice
  mount: { args: ["ptr", "ptr", "ptr", "ptr", "ptr"], returns: "i32" }, // source, target,
  // filesystemtype, mountflags, data
  umount2: { args: ["ptr", "i32"], returns: "i32" }, // target, flags
  unshare: { args: ["i32"], returns: "i32" }, // flags
  setns: { args: ["i32", "i32"], returns: "i32" }, // fd, nstype
  prctl: { args: ["i32", "ptr", "ptr", "ptr", "ptr"], returns: "i32" }, // option, arg2..arg5
  getrlimit: { args: ["i32", "ptr"], returns: "i32" }, // resource, rlim
  setrlimit: { args: ["i32", "ptr"], returns: "i32" }, // resource, rlim
  gettid: { args: [], returns: "i32" },
  sched_setaffinity: { args: ["i32", "u32", "ptr"], returns: "i32" }, // pid, cpusetsize, mask
  fallocate: { args: ["i32", "i32", "ptr", "ptr"], returns: "i32" }, // fd, mode, offset, len
  // dirfd, pathname, flags, mask, statxbuf
  statx: { args: ["i32", "ptr", "i32", "u32", "ptr"], returns: "i32" },
  syscall: { args: ["i32", "i32", "u32"], returns: "i32" }, // number, arg1, arg2
  alarm: { args: ["u32"], returns: "u32" }, // seconds
  _exit: { args: ["i32"], returns: "void" }, // status
} as const);

function load<T extends Record<string, FFIFunction>>(functions: T) {
  try {
    return dlopen("libc.so.6", functions).symbols;
  } catch (cause) {
    const reason = messageOf(cause);
    throw new UblkError(`Cannot call the C library: ${reason}`, {
      cause,
      exitCode: EXIT.notSupported,
      hint: /JIT/.test(reason)
        ? "unset BUN_JSC_useJIT, and allow executable memory (systemd: MemoryDenyWriteExecute=no)"
        : "this program needs glibc, with libc.so.6 where the loader finds it",
    });
  }
}

export const O = {
  RDONLY: 0,
  WRONLY: 1,
  RDWR: 2,
  CREAT: 0o100,
  EXCL: 0o200,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  NOFOLLOW: process.arch === "arm64" ? 0o100000 : 0o400000,
  CLOEXEC: 0o2000000,
  DIRECT: process.arch === "arm64" ? 0o200000 : 0o40000,
} as const;
export const PROT = { READ: 1, WRITE: 2 } as const;
export const MAP = { SHARED: 1, PRIVATE: 2, ANONYMOUS: 0x20, NORESERVE: 0x4000 } as const;
export const MADV = { DONTNEED: 4 } as const;
export const MFD = { CLOEXEC: 1, EXEC: 0x10 } as const;
export const EFD = { SEMAPHORE: 1, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 } as const;
/** For access(2). */
export const OK = { X: 1, W: 2 } as const;
export const LOCK = { SH: 1, EX: 2, NB: 4, UN: 8 } as const;
export const F = {
  GETFD: 1,
  SETFD: 2,
  GETFL: 3,
  SETFL: 4,
  DUPFD_CLOEXEC: 1030,
  FD_CLOEXEC: 1,
} as const;
export const MS = {
  RDONLY: 1,
  REMOUNT: 32,
  BIND: 4096,
  REC: 16384,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
} as const;
export const MNT = { FORCE: 1, DETACH: 2 } as const;
export const CLONE = { NEWNS: 0x20000 } as const;
export const PR = { SET_PDEATHSIG: 1, SET_NAME: 15, SET_IO_FLUSHER: 57 } as const;
export const RLIMIT = { NOFILE: 7 } as const;
/** The descriptor is of one thread, not of its process (Linux 6.9). */
export const PIDFD_THREAD = 0o200;
export const AF = { UNIX: 1 } as const;
export const SOCK = { STREAM: 1, DGRAM: 2, NONBLOCK: 0o4000, CLOEXEC: 0o2000000 } as const;
export const MSG = { DONTWAIT: 0x40, NOSIGNAL: 0x4000 } as const;
const PIDFD_GET_INFO = 0xc040ff0b;
const PIDFD_INFO_EXIT = 1 << 3;
const AT_EMPTY_PATH = 0x1000;
const ESRCH = 3;
const SEEK_END = 2;
const SYS_pidfd_open = 434;
const SYS_exit = process.arch === "arm64" ? 93 : 60;

// errno is per thread, and so is this module: every Worker has its own instance.
const errno = new Int32Array(toArrayBuffer(C.__errno_location() as Pointer, 0, 4));

/** What a failed call left in errno, negative. Must be the statement after the call. */
function checked(result: number): number {
  return result < 0 ? -errno[0]! : result;
}

/** The engine keeps `bytes` alive and in place during the call it is an argument of. */
function cString(text: string): Uint8Array {
  return Buffer.from(`${text}\0`);
}

const address = (value: number): Pointer => value as Pointer;

/** open(2): a descriptor; `mode` counts with `O.CREAT` only. */
export function open(path: string, flags: number, mode = 0): number {
  return checked(C.open(cString(path), flags, mode));
}

/** close(2). */
export function close(fd: number): number {
  return checked(C.close(fd));
}

/** read(2): how many bytes were read; 0 at the end. */
export function read(fd: number, into: Uint8Array): number {
  return checked(Number(C.read(fd, into, into.byteLength)));
}

/** lseek(2) to the end: the file's size. */
export function seekEnd(fd: number): number {
  return checked(Number(C.lseek(fd, 0, SEEK_END)));
}

/** write(2): how many bytes went out, possibly fewer. */
export function write(fd: number, bytes: Uint8Array): number {
  return checked(Number(C.write(fd, bytes, bytes.byteLength)));
}

/** pread(2) into mapped memory: bytes read, possibly fewer. At most 2^31 bytes; for the data path. */
export function pread(fd: number, at: number, lengthBytes: number, offsetBytes: number): number {
  return checked(C.pread(fd, address(at), lengthBytes, address(offsetBytes)));
}

/** pwrite(2) from mapped memory: bytes written, possibly fewer. As `pread`. */
export function pwrite(fd: number, at: number, lengthBytes: number, offsetBytes: number): number {
  return checked(C.pwrite(fd, address(at), lengthBytes, address(offsetBytes)));
}

/** dup2(2): `newFd`. */
export function dup2(oldFd: number, newFd: number): number {
  return checked(C.dup2(oldFd, newFd));
}

/** pipe2(2): 0, and the ends for reading and writing in `fds`, which has two elements. */
export function pipe2(fds: Int32Array, flags: number): number {
  return checked(C.pipe2(fds, flags));
}

/** fcntl(2) with an integer argument. */
export function fcntl(fd: number, command: number, argument = 0): number {
  return checked(C.fcntl(fd, command, argument));
}

/** flock(2). */
export function flock(fd: number, operation: number): number {
  return checked(C.flock(fd, operation));
}

/** ioctl(2); `argument` is a buffer, or a number (0, or the address of mapped memory). */
export function ioctl(fd: number, request: number, argument: NodeJS.TypedArray | number): number {
  return checked(C.ioctl(fd, request, typeof argument === "number" ? address(argument) : argument));
}

/** eventfd(2): a descriptor. */
export function eventfd(initialValue: number, flags: number): number {
  return checked(C.eventfd(initialValue, flags));
}

/** socket(2): a descriptor. */
export function socket(domain: number, type: number): number {
  return checked(C.socket(domain, type, 0));
}

/** connect(2); `address` is a struct sockaddr of the socket's domain. */
export function connect(fd: number, to: Uint8Array): number {
  return checked(C.connect(fd, to, to.byteLength));
}

/** sendto(2): how many bytes went out; `address` is a struct sockaddr of the socket's domain. */
export function sendto(fd: number, bytes: Uint8Array, flags: number, to: Uint8Array): number {
  return checked(Number(C.sendto(fd, bytes, bytes.byteLength, flags, to, to.byteLength)));
}

/** memfd_create(2): a descriptor. */
export function memfd_create(name: string, flags: number): number {
  return checked(C.memfd_create(cString(name), flags));
}

/** mmap(2) wherever the kernel likes: an address. `offsetBytes` may exceed 2^32. */
export function mmap(options: {
  lengthBytes: number;
  protection: number;
  flags: number;
  fd: number;
  offsetBytes: number;
}): number {
  const { lengthBytes, protection, flags, fd, offsetBytes } = options;
  return checked(
    Number(C.mmap(address(0), address(lengthBytes), protection, flags, fd, offsetBytes)),
  );
}

/** munmap(2). Whoever still uses a view of the memory crashes. */
export function munmap(at: number, lengthBytes: number): number {
  return checked(C.munmap(address(at), address(lengthBytes)));
}

/** madvise(2). */
export function madvise(at: number, lengthBytes: number, advice: number): number {
  return checked(C.madvise(address(at), address(lengthBytes), advice));
}

/** mount(2), without data; `type` is "" where it does not matter (bind mounts, remounts). */
export function mount(source: string, target: string, type: string, flags: number): number {
  const where = cString(target);
  return checked(C.mount(cString(source), where, cString(type), address(flags), address(0)));
}

/** umount2(2). */
export function umount2(target: string, flags: number): number {
  return checked(C.umount2(cString(target), flags));
}

/** unshare(2): changes the calling thread, and the threads it creates from then on. */
export function unshare(flags: number): number {
  return checked(C.unshare(flags));
}

/** setns(2): changes the calling thread. */
export function setns(fd: number, type: number): number {
  return checked(C.setns(fd, type));
}

/** prctl(2) with up to two integer arguments; the others are 0, as most options demand. */
export function prctl(option: number, second = 0, third = 0): number {
  return checked(C.prctl(option, address(second), address(third), address(0), address(0)));
}

/** What the calling thread is called in ps and top; the kernel keeps 15 characters. */
export function nameThread(name: string): void {
  C.prctl(PR.SET_NAME, cString(name), address(0), address(0), address(0));
}

/** getrlimit(2): the soft and the hard limit go into `limits`, which has two elements. */
export function getrlimit(resource: number, limits: BigUint64Array): number {
  return checked(C.getrlimit(resource, limits));
}

/** setrlimit(2) of this process and all it starts: `limits` is the soft and the hard one. */
export function setrlimit(resource: number, limits: BigUint64Array): number {
  return checked(C.setrlimit(resource, limits));
}

/** fallocate(2); `mode` is FALLOC_FL bits (block.ts). */
export function fallocate(fd: number, mode: number, offset: number, lengthBytes: number): number {
  return checked(C.fallocate(fd, mode, address(offset), address(lengthBytes)));
}

/** statx(2) of an open file: fills `into`, a struct statx (block.ts). */
export function statxOf(fd: number, mask: number, into: Uint8Array): number {
  return checked(C.statx(fd, cString(""), AT_EMPTY_PATH, mask, into));
}

/** alarm(2): SIGALRM, which ends the process, after so many seconds; 0: not any more. */
export function alarm(seconds: number): void {
  C.alarm(seconds);
}

/** gettid(2): the calling thread's number. */
export function gettid(): number {
  return C.gettid();
}

/** sched_setaffinity(2) of thread `tid` (0: the calling one); bit n of `mask` is CPU n. */
export function sched_setaffinity(tid: number, mask: Uint8Array): number {
  return checked(C.sched_setaffinity(tid, mask.byteLength, mask));
}

/** pidfd_open(2): a descriptor that polls readable when the process or thread has ended. */
export function pidfd_open(pid: number, flags: number): number {
  return checked(C.syscall(SYS_pidfd_open, pid, flags));
}

/**
 * How the process of this descriptor has ended, as wait(2) tells its parent: ESRCH until its parent has
 * heard of it, ENOTTY before Linux 6.13. Source: linux/pidfd.h; EXIT came with Linux 6.15.
 */
export function pidfdExitStatus(pidfd: number): number {
  // mask u64, cgroupid u64, pid tgid ppid and eight ids u32, exit_code s32
  const info = new Uint32Array(new ArrayBuffer(64));
  info[0] = PIDFD_INFO_EXIT;
  const result = checked(C.ioctl(pidfd, PIDFD_GET_INFO, info));
  if (result < 0) return result;
  return (info[0]! & PIDFD_INFO_EXIT) === 0 ? -ESRCH : info[15]!;
}

/** exit(2), the bare system call: ends the calling thread and tells nobody. For fault_inject. */
export function exitThread(): never {
  C.syscall(SYS_exit, 0, 0);
  throw new Error("exit returned");
}

/** _exit(2): ends the process now, all threads, no handlers. */
export function _exit(status: number): never {
  C._exit(status);
  throw new Error("_exit returned");
}
