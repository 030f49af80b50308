// A loop whose requests' pages get another place in the ring's table of buffers with each commit, for the
// kernel's batch_04: the driver must empty the place that was, not the one that will be.

import { BatchQueue } from "../../../../src/queue/batch.ts";
import { Ring } from "../../../../src/ring/ring.ts";
import { defineTarget } from "../../../../src/target.ts";
import { loop } from "../../../../src/targets/loop.ts";

type Transfer = (sqe: number, tag: number, ...rest: number[]) => void;

/** What is private of a queue with batch commands. */
interface Insides {
  readonly depth: number;
  readonly ring: Ring;
  readonly elements: Int32Array;
  readonly elementWords: number;
  readonly half: number;
  readonly filled: number;
  add(tag: number, result: number): void;
  transfer: Transfer;
}

/** Word of an SQE that begins with buf_index. */
const BUF_INDEX = 10;

/** Two places for each request, in every ring of this thread. */
export function doublePlaces(): void {
  const { registerBuffersSparse } = Ring.prototype;
  Ring.prototype.registerBuffersSparse = function (this: Ring, count) {
    registerBuffersSparse.call(this, 2 * count);
  };
}

function rotate(queue: Insides): void {
  const { add, transfer, depth, ring } = queue;
  const places = Int32Array.from({ length: depth }, (_, tag) => tag);
  queue.add = (tag, result) => {
    const at = queue.half + queue.filled * queue.elementWords;
    add.call(queue, tag, result);
    places[tag] = (places[tag]! + depth) % (2 * depth);
    queue.elements[at] = tag | (places[tag]! << 16);
  };
  queue.transfer = (sqe, tag, ...rest) => {
    transfer.call(queue, sqe, tag, ...rest);
    ring.sqes[sqe + BUF_INDEX] = places[tag]!;
  };
}

export const rotating = defineTarget({
  ...loop,
  name: "rotating_loop",
  summary: "a loop for --batch --auto-zc whose pages change their place",
  serve(spec, context) {
    if (!(context.queue instanceof BatchQueue)) throw new Error("rotating_loop wants --batch");
    rotate(context.queue as unknown as Insides);
    return loop.serve(spec, context);
  },
});
