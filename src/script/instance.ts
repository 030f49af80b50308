// A target's file opened in the thread that serves it: loaded, its code compared with the record's,
// its disk checked and read once, before anything is made or changed for it.

import type { Disk, OpenContext, TargetOptions } from "ublk-bun";

import { EXIT, messageOf, placeOf, UblkError } from "../errors.ts";
import { type Geometry, isDone, returnedWords } from "../target.ts";
import { diskProblem, geometryOf } from "./disk.ts";
import { assertSources, definitionError, loadTarget } from "./load.ts";
import { valuesOf } from "./params.ts";
import { placeOfCall } from "./places.ts";
import type { ScriptSpec } from "./target.ts";

const PROBE_BYTES = 4096;
const PROBE_MS_MAX = 30_000;

export interface Instance {
  readonly disk: Disk;
  readonly geometry: Geometry;
}

/** Throws UblkError, whose message begins with a place in the file. */
export async function openInstance(
  file: string,
  spec: ScriptSpec,
  context: OpenContext,
): Promise<Instance> {
  const { options } = await loadTarget(file);
  assertSources("target", file, spec.sources);
  const values = valuesOf(options.params ?? {}, spec.params);
  let disk: Disk;
  try {
    disk = await (options as TargetOptions<{}>).open(values as never, context);
  } catch (error) {
    throw said(`${placeOf(error) ?? placeOfCall(file, "open")}: open failed`, error);
  }
  let problem: string | undefined;
  try {
    problem = diskProblem(disk);
  } catch (error) {
    // A getter of the disk's.
    throw said(`${placeOf(error) ?? placeOfCall(file, "open")}: what open returned fails`, error);
  }
  if (problem !== undefined) throw definitionError(file, problem);
  await probe(file, disk, spec.ioTimeoutMs);
  return { disk, geometry: geometryOf(disk) };
}

/**
 * Flushes it. Throws what `flush` throws, and where it returned what is not nothing: of a generator,
 * say, nothing has run yet.
 */
export async function flushInstance(disk: Pick<Disk, "flush">): Promise<void> {
  const value: unknown = await disk.flush?.();
  if (isDone(value, 0)) return;
  throw new UblkError(`it returned ${returnedWords(value)}: it must return nothing`);
}

/**
 * Flushes and closes it. `onFlushed` is called between the two: from then on there is nothing in it that
 * somebody's flush must wait for, and nothing may be asked of it any more. Not called when the flush
 * fails: then no flush of the device may succeed.
 */
export async function closeInstance(
  disk: Pick<Disk, "flush" | "close">,
  onFlushed: () => void,
): Promise<void> {
  await flushInstance(disk);
  onFlushed();
  await disk.close?.();
}

/** The kernel reads the first block as soon as it can: what fails then is better known now. */
async function probe(file: string, disk: Disk, ioTimeoutMs: number): Promise<void> {
  const bytes = Math.min(PROBE_BYTES, disk.sizeBytes);
  const into = new Uint8Array(bytes);
  const what = "reading the first block";
  let value: unknown;
  try {
    const limitMs = ioTimeoutMs === 0 ? PROBE_MS_MAX : Math.min(ioTimeoutMs, PROBE_MS_MAX);
    const late = Bun.sleep(limitMs).then(() => {
      const place = placeOfCall(file, "read");
      throw new UblkError(`${place}: ${what} has not ended after ${limitMs / 1000} s`, {
        exitCode: EXIT.timedOut,
      });
    });
    value = await Promise.race([disk.read(0, into), late]);
  } catch (error) {
    if (error instanceof UblkError) throw error;
    throw said(`${placeOf(error) ?? placeOfCall(file, "read")}: ${what} failed`, error);
  }
  if (isDone(value, bytes)) return;
  throw new UblkError(
    `${placeOfCall(file, "read")}: ${what} returned ${returnedWords(value)}: ` +
      `read must fill all of \`into\` (${bytes} bytes), and return nothing`,
  );
}

/** What somebody else's code has thrown, after `what`. */
export const said = (what: string, cause: unknown) =>
  cause instanceof UblkError ? cause : new UblkError(`${what}: ${messageOf(cause)}`, { cause });
