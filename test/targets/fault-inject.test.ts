// fault_inject without a kernel: what its options mean, which requests it fails, what it says when.

import { expect, test } from "bun:test";

import { parseArgs } from "citty";

import { ERRNO } from "../../src/ffi/errno.ts";
import { UBLK_IO_OP } from "../../src/ffi/ublk.ts";
import { io_uring_sqe, IORING_OP } from "../../src/ffi/uring.ts";
import { KIND, packLo } from "../../src/queue/tag.ts";
import { faultInject } from "../../src/targets/fault-inject.ts";
import { FakeQueue } from "../support/fake-queue.ts";

const parse = (...words: string[]) => faultInject.parse(parseArgs(words, faultInject.args));

function serve(words: readonly string[], id = 0): FakeQueue {
  const fake = new FakeQueue({ id, depth: 4, data: "none" });
  const options = { facts: {}, fds: [], queue: fake.queue };
  fake.prime(faultInject.serve(parse(...words), options));
  return fake;
}

/** Which of `count` reads fail, as 0s and 1s; all failures are `errno`. */
function failures(fake: FakeQueue, count: number, errno: number): string {
  return Array.from({ length: count }, (_, n) => {
    fake.deliver(n % 4, { op: UBLK_IO_OP.READ, offsetBytes: n * 4096, lengthBytes: 4096 });
    const { result } = fake.submitted()[0]!;
    expect([4096, -errno]).toContain(result);
    return result < 0 ? "1" : "0";
  }).join("");
}

const ones = (text: string) => text.replaceAll("0", "").length;

test("the same seed fails the same requests, another seed and another queue others", () => {
  const words = ["--error-rate=0.25", "--error=ENOSPC", "--seed=42"];
  const row = failures(serve(words), 4000, ERRNO.ENOSPC);
  expect(failures(serve(words), 4000, ERRNO.ENOSPC)).toBe(row);
  expect(failures(serve([...words.slice(0, 2), "--seed=43"]), 4000, ERRNO.ENOSPC)).not.toBe(row);
  expect(failures(serve(words, 1), 4000, ERRNO.ENOSPC)).not.toBe(row);
});

test.each([
  ["0", 0, 0],
  ["0.01", 60, 140],
  ["5%", 400, 600],
  ["0.5", 4750, 5250],
  ["100%", 10_000, 10_000],
  ["1", 10_000, 10_000],
])("of 10,000 requests --error-rate %s fails between %d and %d", (rate, least, most) => {
  for (const seed of ["0", "1", "4294967295"]) {
    const count = ones(failures(serve([`--error-rate=${rate}`, `--seed=${seed}`]), 10_000, 5));
    expect(count).toBeGreaterThanOrEqual(least);
    expect(count).toBeLessThanOrEqual(most);
  }
});

test("without options it is null, at 1 GiB too", () => {
  const fake = serve([]);
  fake.deliver(0, { op: UBLK_IO_OP.READ, offsetBytes: 1024 ** 3, lengthBytes: 4096 });
  expect(fake.submitted()).toMatchObject([{ operation: "commit", result: 4096 }]);
});

test("--delay-us: a timer for each request, and its answer when the timer has run out", () => {
  const fake = serve(["--delay-us=2500000", "--fault-at=0"]);
  fake.deliver(2, { op: UBLK_IO_OP.WRITE, offsetBytes: 8192, lengthBytes: 1024 });
  fake.deliver(3, { op: UBLK_IO_OP.WRITE, offsetBytes: 0, lengthBytes: 1024 });
  const timers = fake.words();
  expect(timers).toHaveLength(2);
  for (const [n, words] of timers.entries()) {
    expect(words[io_uring_sqe.at.opcode]! & 0xff).toBe(IORING_OP.TIMEOUT);
    expect(words.slice(8, 10)).toEqual([packLo(2 + n, 0), KIND.target]);
  }
  fake.queue.onCompletion(packLo(3, 0), KIND.target, -ERRNO.ETIME, 0);
  expect(fake.submitted()).toMatchObject([{ operation: "commit", tag: 3, result: -ERRNO.EIO }]);
  fake.queue.onCompletion(packLo(2, 0), KIND.target, -ERRNO.ETIME, 0);
  expect(fake.submitted()).toMatchObject([{ operation: "commit", tag: 2, result: 1024 }]);
});

test.each([
  [["--error=EPERM", "--error-rate=1"], "would not reach the application"],
  [["--error=nonsense", "--error-rate=1"], "would not reach the application"],
  [["--error=EIO"], "happens to no request"],
  [["--error-rate=5"], "from 0 to 1, or percent"],
  [["--error-rate=101%"], "from 0 to 1, or percent"],
  [["--error-rate=-0.1"], "from 0 to 1, or percent"],
  [["--error-rate=half"], "from 0 to 1, or percent"],
  [["--delay-us=-1"], "--delay-us"],
  [["--delay-us=1ms"], "--delay-us"],
  [["--die-after=-5"], "--die-after"],
  [["--die-during-fetch=2"], "--die-during-fetch"],
  [["--seed=x"], "--seed"],
  [["--fault=fire"], 'Unknown --fault "fire"'],
])("%j is a usage error", (words, text) => {
  let error: { message?: string; hint?: string; exitCode?: number } = {};
  try {
    parse(...words);
  } catch (thrown) {
    error = thrown as typeof error;
  }
  expect(`${error.message} ${error.hint}`).toContain(text);
  expect(error.exitCode).toBe(2);
});
