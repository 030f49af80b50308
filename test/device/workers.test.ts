// What the main thread tells its queues' threads: each order arrives, once, and in its turn.

import { expect, test } from "bun:test";

import type { Control } from "../../src/control/control.ts";
import { Workers } from "../../src/device/workers.ts";
import { ERRNO } from "../../src/ffi/errno.ts";
import { ORDERS } from "../../src/queue/protocol.ts";

/** One thread, and a kernel that answers what is sent to it as `answer` says. */
function told(answer: (order: string | undefined, tries: number) => number) {
  const heard: (string | undefined)[] = [];
  const control = {
    wake: (_ringFd: number, place: number) => {
      heard.push(ORDERS[place]);
      return Promise.resolve(answer(ORDERS[place], heard.length));
    },
  } as unknown as Control;
  const { promise: fatal, resolve } = Promise.withResolvers<string>();
  const workers = new Workers({
    control,
    queues: 1,
    stallTimeoutMs: 0,
    onFatal: resolve as (reason: string) => never,
    onBroken: resolve,
    describeCall: String,
  });
  workers.start(1);
  return { workers, heard, fatal };
}

test("an order for which the kernel has no memory is sent again, and what follows it waits", async () => {
  const { workers, heard, fatal } = told((order, tries) => {
    if (order !== "drain") return 0;
    return tries < 3 ? -ERRNO.ENOMEM : 0;
  });
  void workers.drain();
  workers.stay();
  const all = async () => {
    while (heard.at(-1) !== "stay") await Bun.sleep(1);
  };
  await Promise.race([all(), fatal]);
  expect(heard).toEqual(["drain", "drain", "drain", "stay"]);
});

test("an order that cannot arrive ends the process: its thread would go on as if nothing was", async () => {
  const { workers, heard, fatal } = told(() => -ERRNO.EBADF);
  void workers.drain();
  expect(await fatal).toBe("queue 0 cannot be told to drain: EBADF");
  expect(heard).toEqual(["drain"]);
});

test("an order for which there is never memory is given up", async () => {
  const { workers, heard, fatal } = told(() => -ERRNO.EAGAIN);
  void workers.drain();
  expect(await fatal).toBe("queue 0 cannot be told to drain: EAGAIN");
  expect(new Set(heard)).toEqual(new Set(["drain"]));
  expect(heard.length).toBeGreaterThan(1);
});
