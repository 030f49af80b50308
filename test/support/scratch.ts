// Places for backings: files, real file systems with O_DIRECT, loop devices; gone at the scope's end.

import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";

import { runOk } from "./program.ts";
import { sparseFile } from "./sparse-file.ts";

/** A file system of its own, mounted; `mkfs` words make one on a loop device, a bare type is mounted. */
export class Scratch implements AsyncDisposable {
  readonly folder: string;
  readonly #image: string;

  private constructor(folder: string, image: string) {
    this.folder = folder;
    this.#image = image;
  }

  /** On a loop device over a file in memory, so that it has real O_DIRECT. */
  static async make(mkfs: readonly string[], sizeBytes: number): Promise<Scratch> {
    const home = mkdtempSync("/dev/shm/ublk-bun-scratch-");
    const image = sparseFile(join(home, "image"), sizeBytes);
    await runOk("/sbin/modprobe", "loop");
    await runOk(...mkfs, image);
    const folder = mkdtempSync("/tmp/ublk-bun-scratch-");
    await runOk("mount", "-o", "loop", image, folder);
    return new Scratch(folder, home);
  }

  /** A file system in memory: "tmpfs" with a limit, or "ramfs", which has no O_DIRECT. */
  static async memory(type: "tmpfs" | "ramfs", sizeBytes: number): Promise<Scratch> {
    const folder = mkdtempSync("/tmp/ublk-bun-scratch-");
    await runOk("mount", "-t", type, "-o", `size=${sizeBytes}`, type, folder);
    return new Scratch(folder, "");
  }

  file(name: string, sizeBytes: number): string {
    return sparseFile(join(this.folder, name), sizeBytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await runOk("umount", this.folder);
    rmSync(this.folder, { recursive: true });
    if (this.#image !== "") rmSync(this.#image, { recursive: true });
  }
}

/** A kernel loop device over a file in memory. */
export class LoopDevice implements AsyncDisposable {
  readonly path: string;
  readonly file: string;
  readonly #home: string;

  private constructor(path: string, file: string, home: string) {
    this.path = path;
    this.file = file;
    this.#home = home;
  }

  static async attach(sizeBytes: number, ...words: string[]): Promise<LoopDevice> {
    const home = mkdtempSync("/dev/shm/ublk-bun-loop-");
    const file = sparseFile(join(home, "file"), sizeBytes);
    await runOk("/sbin/modprobe", "loop");
    const path = (await runOk("losetup", "-f", "--show", ...words, file)).trim();
    return new LoopDevice(path, file, home);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await runOk("losetup", "-d", this.path);
    rmSync(this.#home, { recursive: true });
  }
}

/** A block device over another one, whose second half fails with I/O errors. */
export class FaultyDevice implements AsyncDisposable {
  readonly path = "/dev/mapper/faulty";

  private constructor() {}

  /** `sizeBytes` of `below`, the first half of it without fault. */
  static async over(below: string, sizeBytes: number): Promise<FaultyDevice> {
    const half = sizeBytes / 2 / 512;
    await runOk("/sbin/modprobe", "dm-mod");
    const table = `0 ${half} linear ${below} 0\\n${half} ${half} error\\n`;
    await runOk("sh", "-c", `printf '${table}' | dmsetup create faulty`);
    // A guest has no udev to make the node.
    await runOk("dmsetup", "mknodes", "faulty");
    return new FaultyDevice();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await runOk("dmsetup", "remove", "--retry", "faulty");
  }
}
