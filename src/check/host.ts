// The process that holds a target under check: it opens it, calls it as it is told, and watches what
// it does to its buffers. What it may do to a process (exit, hang, crash) it does to this one.

import type { Disk } from "ublk-bun";

import { BlockError } from "../api/index.ts";
import { EXIT, messageOf, placeOf, stackOf, UblkError } from "../errors.ts";
import { PR, prctl } from "../ffi/libc.ts";
import { placeOfCall } from "../script/places.ts";
import { isDone, returnedWords } from "../target.ts";
import { formatBytes } from "../units.ts";
import { tryWrite } from "../write.ts";
import { Answered, RequestBuffer } from "./buffers.ts";
import { fillBlocks, labelOf } from "./content.ts";
import { openJob } from "./opened.ts";
import type { Answer, Call, HostJob, Request } from "./protocol.ts";

const SIGKILL = 9;

/** A rule that was broken, in words that are complete. */
class Broken extends Error {}

/** Serves calls until the parent goes. */
export async function hostTarget(job: HostJob): Promise<void> {
  // An endless loop would outlive its check.
  prctl(PR.SET_PDEATHSIG, SIGKILL);
  Bun.unsafe.setJITPolicy(1);
  // In a server an error that nobody catches ends the service of the disk.
  process.on("uncaughtException", die);
  process.on("unhandledRejection", die);
  const host = new Host(job);
  process.on("message", (call: Call) => void host.answer(call));
  await new Promise<void>((resolve) => process.on("disconnect", resolve));
}

function die(error: unknown): never {
  tryWrite(2, `${stackOf(error)}\n`);
  process.exit(EXIT.failed);
}

class Host {
  readonly #job: HostJob;
  readonly #answered = new Answered();
  #disk: Disk | undefined;
  #blockBytes = 0;

  constructor(job: HostJob) {
    this.#job = job;
  }

  async answer({ id, ...request }: Call): Promise<void> {
    let answer: Omit<Answer, "id">;
    try {
      answer = await this.#call(request);
      const problem = this.#answered.problem();
      if (problem !== undefined) answer = { problem };
    } catch (error) {
      answer = describe(request, error, this.#job);
    }
    process.send!({ id, ...answer });
  }

  async #call(request: Request): Promise<Omit<Answer, "id">> {
    if (request.kind === "ping") return {};
    if (request.kind === "open") {
      const { disk, geometry } = await openJob(this.#job, request.isNew);
      this.#disk = disk;
      this.#blockBytes = geometry.logicalBlockBytes;
      return { geometry };
    }
    const disk = this.#disk!;
    if (request.kind === "read") return this.#read(disk, request);
    if (request.kind === "write") await this.#write(disk, request);
    if (request.kind === "put") await this.#put(disk, request);
    if (request.kind === "flush") demandDone(request, await disk.flush?.(), 0);
    if (request.kind === "discard") {
      demandDone(request, await disk.discard!(request.offset, request.length), 0);
    }
    if (request.kind === "writeZeroes") {
      const { offset, length, mayUnmap } = request;
      demandDone(request, await disk.writeZeroes!(offset, length, { mayUnmap }), 0);
    }
    if (request.kind === "close") await disk.close?.();
    return {};
  }

  async #read(
    disk: Disk,
    request: Extract<Request, { kind: "read" }>,
  ): Promise<Omit<Answer, "id">> {
    const buffer = new RequestBuffer(request.length, request.shift);
    const done = await disk.read(request.offset, buffer.view);
    this.#inspect(request, buffer, done);
    const { unfilledAt } = buffer;
    if (unfilledAt >= 0) {
      throw new Broken(
        `${wordsOf(request)}: it did not fill all of \`into\`: from byte ${unfilledAt} on ` +
          `(offset ${request.offset + unfilledAt}) it is as it was before the read`,
      );
    }
    const data = buffer.view.slice();
    this.#answered.add(buffer, wordsOf(request));
    const labels = Array.from({ length: data.length / this.#blockBytes }, (_, i) => {
      const at = i * this.#blockBytes;
      return labelOf(data.subarray(at, at + this.#blockBytes), this.#job.seed);
    });
    return request.isRaw ? { labels, data } : { labels };
  }

  async #write(disk: Disk, request: Extract<Request, { kind: "write" }>): Promise<void> {
    const { offset, length, version, fua, shift } = request;
    const data = new Uint8Array(length);
    const blockBytes = this.#blockBytes;
    fillBlocks(data, { seed: this.#job.seed, version, first: offset / blockBytes, blockBytes });
    const buffer = new RequestBuffer(length, shift);
    buffer.view.set(data);
    const done = await disk.write!(offset, buffer.view, { fua });
    this.#inspect(request, buffer, done);
    if (Buffer.compare(buffer.view, data) !== 0) {
      const changed = buffer.view.findIndex((byte, i) => byte !== data[i]);
      throw new Broken(
        `${wordsOf(request)}: the target changed byte ${changed} of the data that it was given to ` +
          "write; it may only read it",
      );
    }
    this.#answered.add(buffer, wordsOf(request));
  }

  async #put(disk: Disk, { offset, data }: Extract<Request, { kind: "put" }>): Promise<void> {
    const buffer = new RequestBuffer(data.length, 0);
    buffer.view.set(data);
    await disk.write!(offset, buffer.view, { fua: false });
  }

  #inspect(request: Request, buffer: RequestBuffer, done: unknown): void {
    if (buffer.isGivenAway) {
      throw new Broken(
        `${wordsOf(request)}: its buffer was given away (transferred to a Worker): ` +
          "it is lent until the answer; send a copy",
      );
    }
    if (!buffer.isGuarded) {
      throw new Broken(
        `${wordsOf(request)}: the target wrote beyond its buffer; ` +
          "mind the view's byteOffset and length when you use its .buffer",
      );
    }
    demandDone(request, done, buffer.view.length);
  }
}

function demandDone(request: Request, done: unknown, dataBytes: number): void {
  if (isDone(done, dataBytes)) return;
  const what = `${wordsOf(request)}: it returned ${returnedWords(done)}`;
  if (dataBytes === 0) {
    throw new Broken(`${what}: it must return nothing, or a promise of nothing`);
  }
  throw new Broken(`${what}, not ${dataBytes} or nothing: a request is done as a whole, or fails`);
}

/** "read of 4 KiB at 8192". */
export function wordsOf(request: Request): string {
  if (!("length" in request)) return request.kind;
  const fua = request.kind === "write" && request.fua ? " with fua" : "";
  return `${request.kind} of ${formatBytes(request.length)} at ${request.offset}${fua}`;
}

function describe(request: Request, error: unknown, job: HostJob): Omit<Answer, "id"> {
  if (error instanceof Broken || error instanceof UblkError) return { problem: error.message };
  const place = placeOf(error) ?? placeIn(job, request);
  const message = messageOf(error);
  const where = place === undefined ? "" : `\n${place}: `;
  const how = place === undefined ? ": " : ` failed:`;
  const problem = `${wordsOf(request)}${how}${where}${message}`;
  return { problem, code: error instanceof BlockError ? error.code : undefined };
}

/** Where the function is written, for what the runtime's own modules throw; under a filter nobody knows whose. */
function placeIn(job: HostJob, { kind }: Request): string | undefined {
  if (!("file" in job) || (job.filters ?? []).length > 0) return undefined;
  return placeOfCall(job.file, kind === "put" ? "write" : kind);
}
