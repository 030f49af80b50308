// What each data mode puts around a request, played by a fake ring.

import { expect, test } from "bun:test";

import { ERRNO } from "../../src/ffi/errno.ts";
import { UBLK_IO, UBLK_IO_F, UBLK_IO_OP, UBLK_IO_RES } from "../../src/ffi/ublk.ts";
import { IORING_OP, IOSQE } from "../../src/ffi/uring.ts";
import type { Mode } from "../../src/queue/protocol.ts";
import { KIND } from "../../src/queue/tag.ts";
import { FakeQueue } from "../support/fake-queue.ts";

const READ = { op: UBLK_IO_OP.READ, offsetBytes: 4096, lengthBytes: 8192 };
const WRITE = { ...READ, op: UBLK_IO_OP.WRITE };
const FLUSH = { op: UBLK_IO_OP.FLUSH, offsetBytes: 0, lengthBytes: 0 };
const TAG = 2;

/** A queue whose target moves every request with one transfer to file 1 at offset 7 MiB. */
function fakeOf(mode: Mode, data: "none" | "transfer" = "transfer") {
  const fake = new FakeQueue({ id: 1, depth: 4, mode, data });
  const { queue } = fake;
  const fetches = fake.prime({
    kind: "ring",
    start: (tag) => {
      if (queue.lengthBytes(tag) === 0) return queue.complete(tag, 0);
      const at = queue.ring.sqe();
      queue.transfer(at, tag, 1, 7 * 1024 ** 2, 512, queue.lengthBytes(tag) - 512);
      queue.own(at, tag, 0);
    },
    finish: (tag, _step, result) => queue.complete(tag, result < 0 ? result : result + 512),
  });
  return { fake, queue, fetches };
}

const finish = (fake: FakeQueue, result: number) =>
  fake.queue.onCompletion(TAG, KIND.target, result, 0);

for (const [mode, request, opcode] of [
  ["copy", READ, IORING_OP.READ],
  ["copy", WRITE, IORING_OP.WRITE],
  ["get-data", WRITE, IORING_OP.WRITE],
  ["zero-copy", READ, IORING_OP.READ_FIXED],
  ["auto-zc", WRITE, IORING_OP.WRITE_FIXED],
] as const) {
  test(`${mode}: a transfer names the part of the request, whichever way it is reached`, () => {
    const { fake } = fakeOf(mode);
    fake.deliver(TAG, request);
    const sqe = fake.words().find((words) => (words[0]! & 0xff) === opcode)!;
    expect(sqe[0]! >>> 8).toBe(IOSQE.FIXED_FILE);
    expect(sqe[1]).toBe(1);
    expect(sqe[2]).toBe(7 * 1024 ** 2);
    const isFixed = mode === "zero-copy" || mode === "auto-zc";
    const base = isFixed ? 0 : FakeQueue.address(TAG);
    expect((sqe[4]! >>> 0) + sqe[5]! * 2 ** 32).toBe(base + 512);
    expect(sqe[6]).toBe(8192 - 512);
    expect(sqe[10]).toBe(isFixed ? TAG : 0);
  });
}

test("copy modes give the kernel the tag's buffer, the others no address", () => {
  for (const mode of ["copy", "get-data"] as const) {
    for (const { tag, address } of fakeOf(mode).fetches) {
      expect(address).toBe(FakeQueue.address(tag));
    }
  }
  for (const mode of ["user-copy", "zero-copy", "auto-zc", "auto-zc-fallback"] as const) {
    for (const { address } of fakeOf(mode).fetches) expect(address).toBe(0);
  }
});

test("get-data: a write that asks for its buffer gets it, as often as it asks, then starts", () => {
  const { fake } = fakeOf("get-data");
  fake.requests.set(TAG, WRITE);
  for (let times = 0; times < 2; times++) {
    fake.queue.onCompletion(TAG, KIND.ublk, UBLK_IO_RES.NEED_GET_DATA, 0);
    const [asked, ...more] = fake.words();
    expect(more).toEqual([]);
    expect(asked![2]).toBe(UBLK_IO.NEED_GET_DATA | 0);
    expect(asked![12]! >>> 16).toBe(TAG);
  }
  fake.deliver(TAG, WRITE);
  expect(fake.words()[0]![0]! & 0xff).toBe(IORING_OP.WRITE);
});

test("zero-copy: registered before the I/O, unregistered with the commit", () => {
  const { fake } = fakeOf("zero-copy");
  fake.deliver(TAG, READ);
  const [register, transfer] = fake.words();
  expect(register![2]).toBe(UBLK_IO.REGISTER_IO_BUF | 0);
  expect(register![0]! >>> 8).toBe(IOSQE.FIXED_FILE | IOSQE.CQE_SKIP_SUCCESS);
  expect(register![12]).toBe(1 | (TAG << 16));
  expect(register![14]).toBe(TAG);
  expect(transfer![0]! & 0xff).toBe(IORING_OP.READ_FIXED);
  finish(fake, 8192 - 512);
  const [unregister, commit] = fake.words();
  expect(unregister![2]).toBe(UBLK_IO.UNREGISTER_IO_BUF | 0);
  expect(commit![2]).toBe(UBLK_IO.COMMIT_AND_FETCH_REQ | 0);
  expect(commit![13]).toBe(8192);
});

test("zero-copy: a request without data, or a target that wants none, registers nothing", () => {
  const { fake } = fakeOf("zero-copy");
  fake.deliver(TAG, FLUSH);
  expect(fake.words().map((words) => words[2])).toEqual([UBLK_IO.COMMIT_AND_FETCH_REQ | 0]);
  const none = new FakeQueue({ id: 0, depth: 4, mode: "zero-copy", data: "none" });
  none.prime({ kind: "ring", start: (tag) => none.queue.complete(tag, 8192), finish: () => {} });
  none.deliver(TAG, READ);
  expect(none.words()).toHaveLength(1);
});

test("zero-copy: a registration that is refused fails the request, not the queue", () => {
  const { fake } = fakeOf("zero-copy");
  fake.deliver(TAG, READ);
  fake.words();
  fake.queue.onCompletion(TAG | (1 << 16), KIND.mode, -ERRNO.ENOMEM, 0);
  finish(fake, -ERRNO.EFAULT);
  const [commit, ...more] = fake.words();
  expect(more).toEqual([]); // what is not registered is not unregistered
  expect(commit![13]).toBe(-ERRNO.EIO);
});

test("zero-copy: answered before the refusal is heard of, it is not unregistered in vain", () => {
  const fake = new FakeQueue({ id: 0, depth: 4, mode: "zero-copy" });
  fake.prime({ kind: "ring", start: (tag) => fake.queue.complete(tag, -5), finish: () => {} });
  fake.deliver(TAG, READ);
  fake.queue.onCompletion(TAG | (1 << 16), KIND.mode, -ERRNO.ENOMEM, 0);
  fake.queue.onCompletion(TAG | (2 << 16), KIND.mode, -ERRNO.EINVAL, 0);
  fake.deliver(TAG, READ);
  expect(() => fake.queue.onCompletion(TAG | (2 << 16), KIND.mode, -ERRNO.EINVAL, 0)).toThrow();
});

test("zero-copy: a buffer that stays registered is a broken invariant: its request would never end", () => {
  const { fake } = fakeOf("zero-copy");
  fake.deliver(TAG, READ);
  finish(fake, 8192 - 512);
  const failed = () => fake.queue.onCompletion(TAG | (2 << 16), KIND.mode, -ERRNO.EINVAL, 0);
  expect(failed).toThrow("data mode");
});

test("auto-zc: fetch and commit carry the slot; nothing is registered by hand", () => {
  const { fake, queue } = fakeOf("auto-zc");
  fake.deliver(TAG, READ);
  expect(fake.words().map((words) => words[0]! & 0xff)).toEqual([IORING_OP.READ_FIXED]);
  queue.onCompletion(TAG, KIND.target, 8192 - 512, 0);
  const [commit, ...more] = fake.words();
  expect(more).toEqual([]);
  expect([commit![4], commit![5]]).toEqual([TAG, 0]);
});

test("auto-zc-fallback: what the kernel could not register is registered by hand, and taken back", () => {
  const { fake } = fakeOf("auto-zc-fallback");
  fake.deliver(TAG, { ...WRITE, flags: UBLK_IO_F.NEED_REG_BUF });
  expect(fake.words()[0]![2]).toBe(UBLK_IO.REGISTER_IO_BUF | 0);
  finish(fake, 8192 - 512);
  const [unregister, commit] = fake.words();
  expect(unregister![2]).toBe(UBLK_IO.UNREGISTER_IO_BUF | 0);
  expect(commit![4]).toBe(TAG | (1 << 16)); // FALLBACK
  fake.deliver(TAG, WRITE);
  expect(fake.words()[0]![0]! & 0xff).toBe(IORING_OP.WRITE_FIXED);
});

test("user-copy: what cannot be copied is an I/O error, unseen by the target", () => {
  // There is no char device here, so every copy fails.
  const { fake } = fakeOf("user-copy");
  fake.deliver(TAG, WRITE);
  const [commit, ...more] = fake.words();
  expect(more).toEqual([]);
  expect(commit![13]).toBe(-ERRNO.EIO);
  fake.deliver(TAG, READ);
  fake.words();
  finish(fake, 8192 - 512);
  expect(fake.words()[0]![13]).toBe(-ERRNO.EIO);
});
