// Functions of node:fs and node:path, each loaded when it is first called. The runtime compiles these modules
// anew in every process and every thread: 3 to 5 ms each, a quarter of a queue's start, which calls none.

type Fs = typeof import("node:fs");
type FsPromises = typeof import("node:fs/promises");
type Path = typeof import("node:path");

/** Stands for a module: each of its functions, under its own name, loads it. */
function lazily<Module extends object>(name: string): Module {
  type Functions = Readonly<Record<string, (...args: unknown[]) => unknown>>;
  return new Proxy({} as Module, {
    get:
      (_target, key: string) =>
      (...args: unknown[]) =>
        (process.getBuiltinModule(name) as Functions)[key]!(...args),
  });
}

export const {
  accessSync,
  chmodSync,
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  unlinkSync,
  watch,
  writeFileSync,
  writeSync,
} = lazily<Fs>("node:fs");

/** open of node:fs/promises. */
export const { open: openFile } = lazily<FsPromises>("node:fs/promises");

export const { basename, dirname, join, resolve } = lazily<Path>("node:path");
