// MSG_RING from one thread's ring wakes another that is blocked in its own; so does a signal.

import { expect, test } from "bun:test";

import { prepMsgRing, setUserData } from "../../src/ring/ops.ts";
import { complete, openRing } from "./support.ts";

test("a message wakes a Worker blocked in its ring", async () => {
  const worker = new Worker(new URL("./wake.worker.ts", import.meta.url).href);
  const inbox: unknown[] = [];
  let arrived = Promise.withResolvers<void>();
  worker.addEventListener("message", ({ data }) => {
    inbox.push(data);
    arrived.resolve();
  });
  worker.addEventListener("error", (event) => arrived.reject(new Error(event.message)));
  const next = async (): Promise<{ [key: string]: number }> => {
    while (inbox.length === 0) {
      await arrived.promise;
      arrived = Promise.withResolvers<void>();
    }
    return inbox.shift() as { [key: string]: number };
  };

  using ring = openRing();
  const { fd } = await next();
  for (const value of [41, 42, 0]) {
    const at = ring.sqe();
    prepMsgRing(ring.sqes, at, fd!, value, 0x1234_5678, -9);
    setUserData(ring.sqes, at, 1, 0);
    expect(complete(ring, 1)[0]![2]).toBe(0);
    expect(await next()).toMatchObject({ lo: 0x1234_5678, hi: -9, value, flags: 0 });
  }
});

test("a signal ends a wait with -EINTR, and the next wait goes on", async () => {
  const script = `
    const { openRing, reapAll } = await import("./support.ts");
    const ring = openRing();
    process.on("SIGUSR2", () => {});
    console.log("ready");
    let result = 0;
    while (result !== -4) result = ring.submitAndWait(1, 50_000_000);
    console.log(result, reapAll(ring).length, ring.submitAndWait(1, 1_000_000));
    process.exit(0);`;
  await using child = Bun.spawn([process.execPath, "-e", script], {
    cwd: import.meta.dir,
    stdout: "pipe",
    stderr: "inherit",
  });
  let text = "";
  let kick: Timer | undefined;
  // A signal before the handler is there would kill the child.
  for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    kick ??= setInterval(() => child.kill("SIGUSR2"), 5);
  }
  clearInterval(kick);
  expect(text).toBe("ready\n-4 0 -62\n");
});
