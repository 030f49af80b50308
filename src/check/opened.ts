// A target as its author's file defines it, or one of our own by name: opened, as functions.

import type { Disk, RingContext, RingDisk, RingTargetOptions, TargetOptions } from "ublk-bun";

import { UblkError } from "../errors.ts";
import { diskProblem, geometryOf, ringDiskProblem, ringGeometryOf } from "../script/disk.ts";
import { definitionError, loadDefinition } from "../script/load.ts";
import { valuesOf } from "../script/params.ts";
import type { Geometry } from "../target.ts";
import { findTarget } from "../targets/index.ts";
import { lift } from "./lift.ts";
import type { HostJob } from "./protocol.ts";

export interface Opened {
  readonly disk: Disk;
  readonly geometry: Geometry;
}

/** Throws what `open` throws, or UblkError where it returned no disk. */
export function openJob(job: HostJob, isNew: boolean): Promise<Opened> {
  return "target" in job ? openOwn(job, isNew) : openFile(job, isNew);
}

async function openFile(job: Extract<HostJob, { file: string }>, isNew: boolean): Promise<Opened> {
  const { file, words, identity, queueId, queues } = job;
  const definition = await loadDefinition(file);
  const params = valuesOf(definition.options.params ?? {}, words) as never;
  const context = { deviceId: -1, identity, isNew, queueId, queues };
  if (definition.kind === "ring") {
    const options = definition.options as RingTargetOptions<{}>;
    const disk = await options.open(params, context);
    const problem = ringDiskProblem(disk);
    if (problem !== undefined) throw definitionError(file, problem);
    return openRing(options, params, disk);
  }
  const disk = await (definition.options as TargetOptions<{}>).open(params, context);
  const problem = diskProblem(disk);
  if (problem !== undefined) throw definitionError(file, problem);
  return { disk, geometry: geometryOf(disk) };
}

function openRing(options: RingTargetOptions<{}>, params: never, disk: RingDisk): Opened {
  const geometry = ringGeometryOf(disk);
  const { fds, facts = {} } = disk;
  const lifted = lift({
    geometry,
    data: options.data,
    fanOut: options.sqesPerRequest ?? 1,
    fds,
    serve: (queue) => {
      const context = { params, fds, facts, queue } as unknown as RingContext<{}>;
      return { kind: "ring", ...bound(options.serve(context)) };
    },
    close: () => disk.close?.(),
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

async function openOwn(job: Extract<HostJob, { target: string }>, isNew: boolean): Promise<Opened> {
  const target = findTarget(job.target);
  const { spec, identity } = job;
  const backing = await target.open(spec, { deviceId: -1, identity, isNew, note: refuse });
  const { geometry, facts, fds } = backing;
  const disk = lift({
    geometry,
    data: target.data,
    fanOut: target.fanOut?.(spec, geometry) ?? 1,
    fds,
    serve: (queue) => target.serve(spec, { facts, fds, queue }),
    close: () => backing[Symbol.asyncDispose]() as Promise<void>,
  });
  return { disk, geometry };
}
