// A served disk under check: one instance of the target, or one a queue, and beside it the model of
// what it must hold. Every answer is compared.

import type { Geometry } from "../target.ts";
import { wordsOf } from "./host.ts";
import { Failure, Instance, type InstanceOptions } from "./instance.ts";
import type { Model } from "./model.ts";
import type { HostJob } from "./protocol.ts";

/** What is checked: all of a host's job but what the disk itself knows. */
export type Subject = HostJob extends infer J
  ? J extends HostJob
    ? Omit<J, "queueId" | "queues" | "seed">
    : never
  : never;

export interface DiskOptions extends Omit<InstanceOptions, "job"> {
  readonly subject: Subject;
  /** Instances: 1, or with `perQueue` one a queue. */
  readonly instances: number;
  /** False: a request that runs twice does harm, it says. */
  readonly isRepeatable: boolean;
  readonly seed: number;
}

/** Bytes on the disk: whole blocks. */
export interface Range {
  readonly offset: number;
  readonly length: number;
}

export class CheckedDisk implements AsyncDisposable {
  readonly geometry: Geometry;
  readonly #instances: readonly Instance[];

  private constructor(geometry: Geometry, instances: readonly Instance[]) {
    this.geometry = geometry;
    this.#instances = instances;
  }

  /** Opens it in processes of its own. Rejects with Failure. */
  static async open(options: DiskOptions, isNew: boolean): Promise<CheckedDisk> {
    const { subject, instances: queues, seed, ...common } = options;
    const instances = Array.from({ length: queues }, (_, queueId) => {
      return new Instance({ ...common, job: { ...subject, seed, queueId, queues } });
    });
    try {
      const found: Geometry[] = [];
      for (const [queueId, each] of instances.entries()) {
        const answer = await each.call({ kind: "open", isNew: isNew && queueId === 0 });
        found.push(answer.geometry!);
      }
      const [geometry, ...others] = found;
      if (others.some((other) => JSON.stringify(other) !== JSON.stringify(geometry))) {
        throw new Failure("open: the instances of the queues describe different disks");
      }
      return new CheckedDisk(geometry!, instances);
    } catch (error) {
      await Promise.all(instances.map((each) => each.kill()));
      throw error;
    }
  }

  /** Reads, and compares with what may be there. `queue` chooses the instance. */
  async read(model: Model, range: Range, { queue = 0, shift = 0 } = {}): Promise<void> {
    const mark = model.mark();
    const call = { kind: "read", ...range, shift, isRaw: false } as const;
    const { labels } = await this.#of(queue).call(call);
    const first = this.#blocks(range)[0];
    for (const [i, label] of labels!.entries()) {
      const problem = model.judge(first + i, label, mark);
      if (problem !== undefined) throw new Failure(`${wordsOf(call)}: ${problem}`);
    }
  }

  /** Reads, and takes what it finds for what is there; returns the bytes. */
  async adopt(model: Model, range: Range): Promise<Uint8Array> {
    const call = { kind: "read", ...range, shift: 0, isRaw: true } as const;
    const { labels, data } = await this.#of(0).call(call);
    const first = this.#blocks(range)[0];
    for (const [i, label] of labels!.entries()) model.adopt(first + i, label);
    return data!;
  }

  /** Writes what the model's next version puts there; returns that version. */
  async write(model: Model, range: Range, { queue = 0, shift = 0, fua = false } = {}) {
    const version = model.begin("data", ...this.#blocks(range));
    await this.rewrite(model, version, range, { queue, shift, fua });
    return version;
  }

  /** Writes a version that was begun before: as if for the first time. */
  async rewrite(
    model: Model,
    version: number,
    range: Range,
    { queue = 0, shift = 0, fua = false } = {},
  ): Promise<void> {
    await this.#of(queue).call({ kind: "write", ...range, version, fua, shift });
    model.end(version, fua);
  }

  /** Writes these very bytes. */
  async put(offset: number, data: Uint8Array): Promise<void> {
    await this.#of(0).call({ kind: "put", offset, data });
  }

  /** A disk without a volatile cache is never told to flush. */
  async flush(model: Model): Promise<void> {
    if (!this.geometry.volatileCache) return;
    const mark = model.mark();
    await Promise.all(this.#instances.map((each) => each.call({ kind: "flush" })));
    model.endFlush(mark);
  }

  async discard(model: Model, range: Range, { queue = 0 } = {}): Promise<void> {
    const version = model.begin("anything", ...this.#blocks(range));
    await this.#of(queue).call({ kind: "discard", ...range });
    model.end(version, false);
  }

  /** False: the target does not do it in this way, as it may where space is to stay allocated. */
  async writeZeroes(
    model: Model,
    range: Range,
    { queue = 0, mayUnmap = true } = {},
  ): Promise<boolean> {
    const version = model.begin("zeroes", ...this.#blocks(range));
    try {
      await this.#of(queue).call({ kind: "writeZeroes", ...range, mayUnmap });
    } catch (error) {
      const isRefused = error instanceof Failure && error.code === "EOPNOTSUPP" && !mayUnmap;
      if (!isRefused) throw error;
      model.refused(version);
      return false;
    }
    model.end(version, false);
    return true;
  }

  /** As a server that goes: flushed, then closed. */
  async close(model: Model): Promise<void> {
    await this.flush(model);
    await Promise.all(this.#instances.map((each) => each.call({ kind: "close" })));
    await this[Symbol.asyncDispose]();
  }

  /** kill -9. */
  async kill(model: Model): Promise<void> {
    await this[Symbol.asyncDispose]();
    model.crash();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#instances.map((each) => each.kill()));
  }

  #of(queue: number): Instance {
    return this.#instances[queue % this.#instances.length]!;
  }

  #blocks({ offset, length }: Range): [number, number] {
    const { logicalBlockBytes: blockBytes } = this.geometry;
    return [offset / blockBytes, length / blockBytes];
  }
}
