// A target as its author's file defines it, or one of our own by name, with its filters: opened, as
// functions.

import type { RingContext, RingTargetOptions } from "ublk-bun";

import { UblkError } from "../errors.ts";
import { liburingPath } from "../ffi/liburing.ts";
import { lift } from "../filters/lift.ts";
import { liftTarget, openFilters } from "../filters/open.ts";
import type { Layer } from "../filters/over.ts";
import { diskProblem, geometryOf, ringDiskProblem, ringGeometryOf } from "../script/disk.ts";
import { definitionError, loadTarget } from "../script/load.ts";
import { valuesOf } from "../script/params.ts";
import { findTarget } from "../targets/index.ts";
import type { HostJob } from "./protocol.ts";

const note = () => {};

/** Throws what `open` throws, or UblkError where it returned no disk. */
export async function openJob(job: HostJob, isNew: boolean): Promise<Layer> {
  const bottom = await ("target" in job ? openOwn(job, isNew) : openFile(job, isNew));
  const { filters = [], identity, queues } = job;
  return openFilters(filters, bottom, { deviceId: -1, identity, isNew, queues });
}

async function openFile(job: Extract<HostJob, { file: string }>, isNew: boolean): Promise<Layer> {
  const { file, words, identity, queueId, queues } = job;
  const definition = await loadTarget(file);
  const params = valuesOf(definition.options.params ?? {}, words) as never;
  const context = { deviceId: -1, identity, isNew, queueId, queues };
  if (definition.kind === "ring") return openRing(definition.options, file, params, context);
  const disk = await definition.options.open(params, context);
  const problem = diskProblem(disk);
  if (problem !== undefined) throw definitionError(file, problem);
  return { disk, geometry: geometryOf(disk) };
}

async function openRing(
  options: RingTargetOptions<{}>,
  file: string,
  params: never,
  context: Parameters<RingTargetOptions<{}>["open"]>[1],
): Promise<Layer> {
  const disk = await options.open(params, context);
  const problem = ringDiskProblem(disk);
  if (problem !== undefined) throw definitionError(file, problem);
  const geometry = ringGeometryOf(disk);
  const { fds, facts = {} } = disk;
  const lifted = lift({
    liburing: liburingPath(),
    geometry,
    data: options.data,
    fanOut: options.sqesPerRequest ?? 1,
    fds,
    serve: (queue) => {
      const inner = { params, fds, facts, queue } as unknown as RingContext<{}>;
      return { kind: "ring", ...bound(options.serve(inner)) };
    },
    close: () => disk.close?.(),
    note,
  });
  return { disk: lifted, geometry };
}

/** A handler may be an object of a class. */
const bound = (handler: ReturnType<RingTargetOptions<{}>["serve"]>) => ({
  start: (tag: number) => handler.start(tag),
  finish: (tag: number, step: number, result: number) => handler.finish(tag, step, result),
});

/** What would be a warning at the prompt: the disk is somebody's. */
function refuse(warning: string): never {
  throw new UblkError(warning);
}

async function openOwn(job: Extract<HostJob, { target: string }>, isNew: boolean): Promise<Layer> {
  const { target, spec, identity } = job;
  const context = { deviceId: -1, identity, isNew, note: refuse };
  const backing = await findTarget(target).open(spec, context);
  const { geometry, facts, fds } = backing;
  const close = () => backing[Symbol.asyncDispose]() as Promise<void>;
  return liftTarget({ target, spec, geometry, facts, fds, liburing: liburingPath(), close, note });
}
