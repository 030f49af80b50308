// A disk that is kept busy for as long as a test needs it.

import { expect } from "bun:test";

import { inFlight } from "./crash.ts";
import { isFragile } from "./fragile.ts";
import { run, type TestDevice, until } from "./program.ts";

export interface Busy {
  /** Waits until requests are with the server. */
  isUnderWay(): Promise<void>;
  /** Ends after the round of fio that is running; fails if a request has failed. */
  end(): Promise<void>;
}

/** Reads and writes at a depth that keeps whole queues busy, with pauses for whatever is tried, until `end`. */
export function keepBusy({ id, path }: TestDevice): Busy {
  const load = isFragile
    ? "--iodepth=1 --thinktime=50ms --number_ios=100"
    : "--iodepth=64 --number_ios=500 --thinktime=50ms --thinktime_blocks=64";
  const words = `--name=job --filename=${path} --rw=randrw --bs=4k --direct=1 --size=1g
    --ioengine=libaio ${load} --numjobs=2 --group_reporting`;
  let isOver = false;
  const work = (async () => {
    for (;;) {
      const { exitCode, stdout, stderr } = await run(["fio", ...words.split(/\s+/)]);
      if (exitCode !== 0 || isOver)
        return { exitCode, output: exitCode === 0 ? "" : stdout + stderr };
    }
  })();
  return {
    isUnderWay: () => until("fio's requests", () => inFlight(id) > 0),
    end: async () => {
      isOver = true;
      expect(await work).toEqual({ exitCode: 0, output: "" });
    },
  };
}
