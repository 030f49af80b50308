// A disk in a file, as a ring target: it queues io_uring entries itself, as ublk-bun's own targets do.
// No promise and no allocation in a request's way; in return every detail is the target's.
//
//   truncate -s 1G disk.img
//   ublk-bun add --target ./ring-file.ts --param path=disk.img
import { closeSync, fstatSync, openSync } from "node:fs";

import { addFlags, defineRingTarget, ERRNO, IO_OP, IOSQE, prepFsync } from "ublk-bun";

const MOVE = 0;
const SYNC = 1;

export default defineRingTarget({
  summary: "a file, through io_uring",
  params: { path: { type: "path", required: true, help: "file that holds the blocks" } },
  data: "transfer",
  open({ path }) {
    const fd = openSync(path, "r+");
    const { size } = fstatSync(fd);
    return {
      sizeBytes: size - (size % 512),
      volatileCache: true,
      fds: [fd],
      close: () => closeSync(fd),
    };
  },
  serve({ queue }) {
    const { ring } = queue;
    /** Bytes of each tag's request that are done. */
    const done = new Int32Array(queue.depth);

    const move = (tag: number) => {
      const at = done[tag]!;
      const sqe = ring.sqe();
      const left = queue.lengthBytes(tag) - at;
      queue.transfer(sqe, tag, 0, queue.offsetBytes(tag) + at, at, left);
      queue.own(sqe, tag, MOVE);
    };
    const sync = (tag: number) => {
      const sqe = ring.sqe();
      prepFsync(ring.sqes, sqe, 0);
      addFlags(ring.sqes, sqe, IOSQE.FIXED_FILE);
      queue.own(sqe, tag, SYNC);
    };

    return {
      start(tag) {
        const op = queue.op(tag);
        done[tag] = 0;
        if (op === IO_OP.READ || op === IO_OP.WRITE) move(tag);
        else if (op === IO_OP.FLUSH) sync(tag);
        else queue.complete(tag, -ERRNO["EOPNOTSUPP"]!);
      },
      finish(tag, step, result) {
        if (result === -ERRNO["EINTR"]! || result === -ERRNO["EAGAIN"]!) {
          if (step === MOVE) move(tag);
          else sync(tag);
        } else if (result < 0) queue.complete(tag, result);
        else if (step === SYNC) queue.complete(tag, 0);
        else if (result === 0) queue.complete(tag, -ERRNO["EIO"]!);
        else {
          done[tag]! += result;
          if (done[tag]! < queue.lengthBytes(tag)) move(tag);
          else queue.complete(tag, done[tag]!);
        }
      },
    };
  },
});
