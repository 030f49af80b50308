// Conformance of every target in the registry, without a kernel. A new target is tested by being there.

import { expect, test } from "bun:test";

import { parseArgs } from "citty";

import { toParams } from "../src/device/params.ts";
import { ERRNO } from "../src/ffi/errno.ts";
import { UBLK_IO_OP } from "../src/ffi/ublk.ts";
import type { Target } from "../src/target.ts";
import { findTarget, targets } from "../src/targets/index.ts";
import { FakeQueue, type Request } from "./support/fake-queue.ts";

/** What a target needs to be opened here, where it has a required option. */
const WORDS: Readonly<Record<string, readonly string[]>> = {};

const context = { deviceId: 0, identity: "0123456789abcdef", isNew: true, note: () => {} };

const words = (target: Target) => [...(WORDS[target.name] ?? [])];

const requests: readonly Request[] = [
  { op: UBLK_IO_OP.READ, offsetBytes: 0, lengthBytes: 4096 },
  { op: UBLK_IO_OP.READ, offsetBytes: 4096, lengthBytes: 512 },
  { op: UBLK_IO_OP.WRITE, offsetBytes: 8192, lengthBytes: 65536 },
  { op: UBLK_IO_OP.FLUSH, offsetBytes: 2 ** 53, lengthBytes: 0 },
  { op: UBLK_IO_OP.DISCARD, offsetBytes: 0, lengthBytes: 1024 ** 2 },
  { op: UBLK_IO_OP.WRITE_ZEROES, offsetBytes: 0, lengthBytes: 1024 ** 2 },
  { op: UBLK_IO_OP.ZONE_OPEN, offsetBytes: 0, lengthBytes: 0 },
];

/** Rule 2 of the house: the whole length, 0 where there is no data, or an errno; never less. */
function isWholeAnswer({ op, lengthBytes }: Request, result: number): boolean {
  const hasData = op === UBLK_IO_OP.READ || op === UBLK_IO_OP.WRITE;
  return result < 0 ? result > -134 : result === (hasData ? lengthBytes : 0);
}

for (const target of targets) {
  test(`${target.name}: its name and summary say what it is`, () => {
    expect(target.name).toMatch(/^[a-z][a-z0-9_]*$/);
    expect(target.summary.length).toBeGreaterThan(10);
    expect(findTarget(target.name)).toBe(target);
  });

  test(`${target.name}: its spec is plain JSON and its geometry is one the kernel takes`, async () => {
    const spec = target.parse(parseArgs(words(target), target.args));
    expect(JSON.parse(JSON.stringify(spec))).toEqual(spec);
    await using backing = await target.open(spec, context);
    const { geometry } = backing;
    expect(geometry.sizeBytes % geometry.logicalBlockBytes).toBe(0);
    expect(geometry.logicalBlockBytes).toBeGreaterThanOrEqual(512);
    expect(geometry.logicalBlockBytes).toBeLessThanOrEqual(4096);
    expect(geometry.physicalBlockBytes).toBeGreaterThanOrEqual(geometry.logicalBlockBytes);
    expect(toParams(geometry, 524288).basic_max_sectors).toBeGreaterThanOrEqual(8);
    expect(JSON.parse(JSON.stringify(backing.facts))).toEqual(backing.facts);
  });

  test(`${target.name}: answers every request once, wholly or with an errno`, async () => {
    const spec = target.parse(parseArgs(words(target), target.args));
    await using backing = await target.open(spec, context);
    const fake = new FakeQueue({ id: 0, depth: requests.length });
    const { facts, fds } = backing;
    fake.prime(target.serve(spec, { facts, fds, queue: fake.queue }));
    for (const [tag, request] of requests.entries()) {
      fake.deliver(tag, request);
      const [answer, ...more] = fake.submitted();
      expect(more).toEqual([]);
      expect(answer).toMatchObject({ operation: "commit", tag });
      expect(isWholeAnswer(request, answer!.result), `op ${request.op}`).toBe(true);
    }
  });
}

test("an operation that a target does not know is refused as such", async () => {
  const target = findTarget("null");
  const spec = target.parse(parseArgs([], target.args));
  const fake = new FakeQueue({ id: 0, depth: 1 });
  fake.prime(target.serve(spec, { facts: {}, fds: [], queue: fake.queue }));
  fake.deliver(0, { op: UBLK_IO_OP.ZONE_APPEND, offsetBytes: 0, lengthBytes: 4096 });
  expect(fake.submitted()[0]!.result).toBe(-ERRNO.EOPNOTSUPP);
});

test("fault_inject fails exactly the requests that touch its offset", () => {
  const target = findTarget("fault_inject");
  const spec = target.parse(parseArgs(["--fault=eio", "--fault-at=1MiB"], target.args));
  const fake = new FakeQueue({ id: 0, depth: 1 });
  fake.prime(target.serve(spec, { facts: {}, fds: [], queue: fake.queue }));
  const result = (offsetBytes: number, lengthBytes: number) => {
    fake.deliver(0, { op: UBLK_IO_OP.READ, offsetBytes, lengthBytes });
    return fake.submitted()[0]!.result;
  };
  const mib = 1024 ** 2;
  expect(result(mib - 4096, 4096)).toBe(4096);
  expect(result(mib - 4096, 8192)).toBe(-5);
  expect(result(mib, 512)).toBe(-5);
  expect(result(mib + 512, 512)).toBe(512);
});

test("an unknown target is a usage error that lists those there are", () => {
  expect(() => findTarget("nul")).toThrow('Unknown target "nul"');
});
