// What must not be seen while a disk's server dies: I/O errors in the kernel's log, and the disk's nodes
// gone or made anew.

import { statSync, writeFileSync } from "node:fs";

import { runOk } from "../program.ts";

/** Lines of the kernel's log about I/O errors, from now on. */
export class KernelLog {
  readonly #mark = `ublk-bun torture ${crypto.randomUUID()}`;

  constructor() {
    writeFileSync("/dev/kmsg", `${this.#mark}\n`);
  }

  async assertNoErrors(): Promise<void> {
    const errors = await this.#errors();
    if (errors.length > 0) throw new Error(`the kernel's log: ${errors.join("\n")}`);
  }

  async #errors(): Promise<string[]> {
    const text = await runOk("dmesg");
    const at = text.lastIndexOf(this.#mark);
    if (at < 0) throw new Error("the kernel's log has forgotten where this test began");
    return text
      .slice(at)
      .split("\n")
      .filter((line) => /I\/O error|critical .* error|EXT4-fs (error|warning)/i.test(line));
  }
}

/** The disk's device node and its sysfs entry, by their inodes: a new one has another number. */
export class DiskNode {
  readonly #paths: readonly string[];
  readonly #first: string;

  constructor(id: number) {
    this.#paths = [`/dev/ublkb${id}`, `/sys/block/ublkb${id}/`, `/dev/ublkc${id}`];
    this.#first = this.#now();
  }

  /** Throws unless all are what they were. */
  assertSame(): void {
    const now = this.#now();
    if (now !== this.#first) throw new Error(`the disk has changed: ${this.#first} is now ${now}`);
  }

  #now(): string {
    return this.#paths
      .map((path) => {
        const stat = statSync(path, { throwIfNoEntry: false });
        return `${path} ${stat === undefined ? "is gone" : `${stat.ino} ${stat.rdev}`}`;
      })
      .join(", ");
  }
}
