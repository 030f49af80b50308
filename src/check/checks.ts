// The checks, in order. Each fails by throwing a Failure; what it leaves on the disk the next one
// knows from the model.

import type { Geometry } from "../target.ts";
import type { Bench } from "./bench.ts";
import type { Range } from "./disk.ts";

export interface Check {
  readonly name: string;
  /** What the target must have for it: otherwise the check is left out, and says so. */
  readonly needs?: { readonly what: string; has(geometry: Geometry): boolean };
  /** Runs requests twice: left out of a target that says that this does harm. */
  readonly repeats?: true;
  /** A string is what is worth knowing of one that has passed. */
  run(bench: Bench): Promise<unknown>;
}

const writable = { what: "write", has: ({ readOnly }: Geometry) => !readOnly };
const DEPTH = 32;
const LOST = "what was not flushed was lost: under a mounted file system it is missed";

const all = <T>(list: readonly T[], act: (value: T, i: number) => Promise<unknown>) =>
  Promise.all(list.map(act));

const anyQueue = (bench: Bench) => ({ queue: bench.anyQueue() });
const read = (bench: Bench) => (range: Range) =>
  bench.disk.read(bench.model, range, anyQueue(bench));
const write = (bench: Bench) => (range: Range) =>
  bench.disk.write(bench.model, range, anyQueue(bench));

/** Blocks one by one. */
function blocksOf(bench: Bench, { offset, length }: Range): Range[] {
  const { blockBytes } = bench;
  return Array.from({ length: length / blockBytes }, (_, i) => ({
    offset: offset + i * blockBytes,
    length: blockBytes,
  }));
}

/** The first block, the last, the largest requests at both ends. */
function ends(bench: Bench): Range[] {
  const { blockBytes, maxIoBytes, disk } = bench;
  const { sizeBytes } = disk.geometry;
  const large = Math.min(maxIoBytes, sizeBytes);
  return [
    { offset: 0, length: blockBytes },
    { offset: sizeBytes - blockBytes, length: blockBytes },
    { offset: 0, length: large },
    { offset: sizeBytes - large, length: large },
    { offset: blockBytes, length: large - blockBytes || blockBytes },
  ].filter(({ offset, length }) => offset + length <= sizeBytes);
}

export const checks: readonly Check[] = [
  {
    name: "reads the same again, in other pieces and in any order",
    run: async (bench) => {
      for (const range of ends(bench)) await read(bench)(range);
      await all(bench.shuffled(bench.pieces()).slice(0, DEPTH), read(bench));
      for (let round = 0; round < 4; round++) await all(bench.apart(DEPTH, 40), read(bench));
      await all(bench.shuffled(blocksOf(bench, bench.place(DEPTH))), read(bench));
    },
  },
  {
    name: "writes the first block, the last, and the largest request",
    needs: writable,
    run: async (bench) => {
      for (const range of ends(bench)) {
        await write(bench)(range);
        await read(bench)(range);
        // The later one wins.
        await write(bench)(range);
        await read(bench)(range);
      }
      await bench.compare();
    },
  },
  {
    name: "requests of every size at once, in any order",
    needs: writable,
    run: async (bench) => {
      for (let round = 0; round < 16; round++) {
        const requests: Promise<unknown>[] = bench
          .apart(DEPTH, 300)
          .map((range) => (bench.random() < 0.4 ? read(bench)(range) : write(bench)(range)));
        if (round % 5 === 4) requests.push(bench.disk.flush(bench.model));
        await Promise.all(requests);
      }
      await bench.compare();
    },
  },
  {
    name: "neighbouring blocks, written at once",
    needs: writable,
    run: async (bench) => {
      for (let round = 0; round < 8; round++) {
        const range = bench.place(DEPTH);
        await all(bench.shuffled(blocksOf(bench, range)), write(bench));
        await read(bench)(range);
      }
      await bench.compare();
    },
  },
  {
    name: "overlapping requests at once: each block is one of them",
    needs: writable,
    run: async (bench) => {
      for (let round = 0; round < 8; round++) {
        const range = bench.place(24);
        const parts = Array.from({ length: 12 }, () => part(bench, range));
        await all(parts, (each, i) => (i % 3 === 2 ? read(bench)(each) : write(bench)(each)));
        await read(bench)(range);
        // One after the other: the later wins.
        for (const each of parts.slice(0, 4)) await write(bench)(each);
        await read(bench)(range);
      }
    },
  },
  {
    name: "buffers anywhere in memory",
    run: async (bench) => {
      for (const shift of [4, 12, 512, 1020, 2048]) {
        const range = bench.place(9);
        if (!bench.disk.geometry.readOnly) await bench.disk.write(bench.model, range, { shift });
        await bench.disk.read(bench.model, range, { shift: shift + 8 });
      }
    },
  },
  {
    name: "discard: what lies beside it stays",
    needs: { what: "discard", has: ({ discard }) => discard !== undefined },
    run: (bench) =>
      beside(bench, bench.disk.geometry.discard!.maxBytes, (range) =>
        bench.disk.discard(bench.model, range, anyQueue(bench)),
      ),
  },
  {
    name: "writeZeroes: zeroes, and what lies beside them stays",
    needs: { what: "writeZeroes", has: ({ writeZeroes }) => writeZeroes !== undefined },
    run: async (bench) => {
      const most = bench.disk.geometry.writeZeroes!.maxBytes;
      for (const mayUnmap of [true, false]) {
        await beside(bench, most, (range) =>
          bench.disk.writeZeroes(bench.model, range, { ...anyQueue(bench), mayUnmap }),
        );
      }
    },
  },
  {
    name: "what was flushed is there after kill -9",
    needs: writable,
    run: async (bench) => {
      await all(bench.apart(DEPTH, 60), write(bench));
      await bench.disk.flush(bench.model);
      // These may be lost, unless the target claims to have no cache: but they alone.
      await all(bench.apart(DEPTH, 20), write(bench));
      await bench.killAndReopen();
      await bench.compare();
      return bench.model.hasLost ? LOST : undefined;
    },
  },
  {
    name: "two queues: written through one, read through the other",
    run: async (bench) => {
      const { disk, model } = bench;
      for (const range of bench.apart(8, 20)) {
        // Each has read it before the other changes it: what it keeps of that is out of date then.
        const readByBoth = () => all([0, 1], (queue) => disk.read(model, range, { queue }));
        await readByBoth();
        for (const queue of [0, 1]) {
          for (const change of changes(bench)) {
            await change(range, queue);
            await readByBoth();
          }
        }
      }
      await disk.flush(model);
      await bench.killAndReopen();
      await bench.compare({ queue: 1 });
    },
  },
  {
    name: "flush while writes are under way",
    needs: { what: "flush", has: ({ volatileCache }) => volatileCache },
    run: async (bench) => {
      const ranges = bench.apart(DEPTH, 40);
      const half = ranges.length / 2;
      await all(ranges.slice(0, half), write(bench));
      const flushed = bench.disk.flush(bench.model);
      await Promise.all([all(ranges.slice(half), write(bench)), flushed]);
      await bench.killAndReopen();
      await bench.compare();
    },
  },
  {
    name: "a write with fua is there after kill -9",
    needs: { what: "fua", has: ({ fua }) => fua },
    run: async (bench) => {
      const { disk, model } = bench;
      await all(bench.apart(8, 20), (range, i) => disk.write(model, range, { fua: i % 2 === 0 }));
      await bench.killAndReopen();
      await bench.compare();
    },
  },
  {
    name: "killed with requests under way, which are delivered again",
    needs: writable,
    repeats: true,
    run: async (bench) => {
      for (let round = 0; round < 3; round++) {
        const ranges = bench.apart(16, 80);
        const { blockBytes, model } = bench;
        const begun = ranges.map((range) => {
          const place = [range.offset / blockBytes, range.length / blockBytes] as const;
          const version = model.begin("data", ...place);
          return { range, version };
        });
        // Each time through the same queue.
        const deliver = ({ version, range }: (typeof begun)[number]) =>
          bench.disk.rewrite(model, version, range, { queue: version });
        const doing = begun.map(deliver);
        // The kill refuses none of them: what is refused, the target has refused.
        const refused: unknown[] = [];
        for (const each of doing) each.catch((error: unknown) => refused.push(error));
        await Promise.any(doing.slice(round));
        if (refused.length > 0) throw refused[0];
        await bench.killAndReopen();
        // Answered ones too: their answer may not have reached the kernel.
        await all(bench.shuffled(begun), (each) => {
          model.again(each.version);
          return deliver(each);
        });
        await bench.compare();
      }
    },
  },
  {
    name: "closed and opened again",
    run: async (bench) => {
      if (!bench.disk.geometry.readOnly) await all(bench.apart(DEPTH, 40), write(bench));
      await bench.disk.close(bench.model);
      bench.disk = await bench.another();
      await bench.compare();
    },
  },
  {
    name: "opened while another server still serves it, as in an upgrade",
    run: async (bench) => {
      const { disk, model } = bench;
      const next = await bench.another();
      try {
        if (!disk.geometry.readOnly) await all(bench.apart(DEPTH, 40), write(bench));
        await disk.close(model);
      } catch (error) {
        await next[Symbol.asyncDispose]();
        throw error;
      }
      bench.disk = next;
      await bench.compare();
    },
  },
];

/** Some of the blocks of a range. */
function part(bench: Bench, { offset, length }: Range): Range {
  const { blockBytes } = bench;
  const blocks = length / blockBytes;
  const first = Math.floor(bench.random() * blocks);
  const count = 1 + Math.floor(bench.random() * (blocks - first));
  return { offset: offset + first * blockBytes, length: count * blockBytes };
}

type Change = (range: Range, queue: number) => Promise<unknown>;

/** All ways in which a target can change what a range holds. */
function changes(bench: Bench): Change[] {
  const { disk, model } = bench;
  const { readOnly, discard, writeZeroes } = disk.geometry;
  const zero: Change = (range, queue) =>
    disk.writeZeroes(model, shortened(range, writeZeroes!.maxBytes), { queue });
  const discardAndWrite: Change = async (range, queue) => {
    await disk.discard(model, shortened(range, discard!.maxBytes), { queue });
    // It may be anything now: what counts is what the other writes there next.
    await disk.read(model, range, { queue });
    await disk.write(model, range, { queue: 1 - queue });
  };
  return [
    ...(readOnly ? [] : [(range: Range, queue: number) => disk.write(model, range, { queue })]),
    ...(writeZeroes === undefined ? [] : [zero]),
    ...(discard === undefined ? [] : [discardAndWrite]),
  ];
}

const shortened = ({ offset, length }: Range, mostBytes: number): Range => ({
  offset,
  length: Math.min(length, mostBytes),
});

/** Data all around, `act` in the middle of it, then data in the middle of that. */
async function beside(
  bench: Bench,
  mostBytes: number,
  act: (range: Range) => Promise<unknown>,
): Promise<void> {
  for (let round = 0; round < 4; round++) {
    const range = bench.place(64);
    await write(bench)(range);
    const inner = shortened(part(bench, range), mostBytes);
    await act(inner);
    await read(bench)(range);
    await write(bench)(part(bench, inner));
    await read(bench)(range);
  }
  // One among many that write at the same time.
  const [first, ...rest] = bench.apart(8, 200);
  await all([shortened(first!, mostBytes), ...rest], (range, i) =>
    i === 0 ? act(range) : write(bench)(range),
  );
  await bench.compare();
  await all(bench.pieces(), write(bench));
  for (const ranges of extremes(bench, mostBytes)) {
    for (const range of ranges) await act(range);
    await bench.compare();
  }
}

/**
 * The first block and the last; then as much at both ends as one request may be and the checks use, which
 * of a small disk is all of it.
 */
function extremes(bench: Bench, mostBytes: number): Range[][] {
  const { blockBytes, windows, disk } = bench;
  const { sizeBytes } = disk.geometry;
  const atEnds = (bytes: number) => [
    { offset: 0, length: bytes },
    { offset: sizeBytes - bytes, length: bytes },
  ];
  const large = Math.min(windows[0]!.length, mostBytes);
  return [atEnds(blockBytes), large === sizeBytes ? atEnds(large).slice(1) : atEnds(large)];
}
