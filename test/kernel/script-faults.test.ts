// Targets that go wrong: each is told with file and line, and leaves no hung disk and no half-made one.

import { afterEach, expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";

import { readBlock } from "../support/crash.ts";
import { leftovers, runOk, type TestDevice, ublk, ublkOk, until } from "../support/program.ts";
import { UserFolder } from "../support/user-target.ts";

const log = () => readFileSync("/run/ublk-bun/0.log", "utf8");

afterEach(() => expect(leftovers()).toEqual([]));

const READ = "read: (offset: number, into: Uint8Array)";

/** `add` of a target of these members fails, saying this, and nothing is left; more: script-worker.test.ts. */
const refused: Readonly<Record<string, readonly [members: string, said: RegExp, top?: string]>> = {
  "a syntax error": ["read: ;", /disk\.ts:9:11: Unexpected ;/],
  "a read that throws": [
    `${READ} => { throw new Error("no luck"); },`,
    /disk\.ts:9:\d+: reading the first block failed: no luck/,
  ],
  "a read that hangs": [
    `${READ} => new Promise<void>(() => {}),`,
    /disk\.ts:7: reading the first block has not ended after 1 s/,
  ],
  "a read that ends the process": [
    `${READ} => { process.exit(3); },`,
    /disk\.ts:9:\d+: reading the first block failed: the target called process\.exit\(3\)/,
  ],
};

for (const [what, [members, said, top]] of Object.entries(refused)) {
  test(`${what}: add says where, and leaves nothing`, async () => {
    using user = new UserFolder();
    user.target("disk.ts", members, top);
    const { exitCode, stderr } = await user.ublk("add", "./disk.ts", "-n0", "--io-timeout=1s");
    expect(stderr).toMatch(said);
    expect(exitCode, stderr).not.toBe(0);
  });
}

test("an open that never ends is given up", async () => {
  using user = new UserFolder();
  user.write(
    "disk.ts",
    `import { defineTarget } from "ublk-bun";
export default defineTarget({ open: () => new Promise(() => {}) });`,
  );
  const { exitCode, stderr } = await user.ublk("add", "./disk.ts", "-n0", "--timeout=3s");
  expect(stderr).toContain(`${user.path}/disk.ts: opening the disk does not end`);
  expect(exitCode).toBe(124);
});

/** Kills the disk's server by a read of block 9, then recovers it with code that does not. */
async function dies(device: TestDevice, user: UserFolder): Promise<void> {
  const waiting = readBlock(device.path, 9);
  await device.untilState("QUIESCED");
  user.target("disk.ts", "");
  await ublkOk("recover", "0", "--quiet", "--accept-changes");
  await waiting;
}

test("process.exit in a live target ends its server; the disk waits for recover", async () => {
  using user = new UserFolder();
  user.target("disk.ts", `${READ} => { if (offset === 9 * 4096) process.exit(0); into.fill(0); },`);
  await using device = await user.add("./disk.ts", "-n0");
  await dies(device, user);
  expect(log()).toMatch(/the target called process\.exit\(0\)[^]*disk\.ts:9:\d+/);
});

test("an exception that nobody catches ends the server too", async () => {
  using user = new UserFolder();
  user.target(
    "disk.ts",
    `${READ} => { if (offset === 9 * 4096) setTimeout(() => { throw new Error("stray"); }); into.fill(0); },`,
  );
  await using device = await user.add("./disk.ts", "-n0");
  // Answered before the exception comes, or after recovery.
  await dies(device, user);
  expect(log()).toMatch(/stray[^]*disk\.ts:9:\d+/);
});

test("an endless loop trips --stall-timeout, and the disk waits for recover", async () => {
  using user = new UserFolder();
  user.target("disk.ts", `${READ} => { while (offset === 9 * 4096); into.fill(0); },`);
  await using device = await user.add("./disk.ts", "-n0", "--stall-timeout=2s");
  await dies(device, user);
  expect(log()).toMatch(/busy with one round for 2000 ms: \S+disk\.ts:7: read does not return/);
});

test("a target that allocates for ever is what the kernel ends, and nothing else", async () => {
  using user = new UserFolder();
  const members = `${READ} => {
      while (offset === 9 * 4096) kept.push(new Uint8Array(16 << 20).fill(1));
      into.fill(0);
    },`;
  user.target("disk.ts", members, "const kept: Uint8Array[] = [];");
  await using device = await user.add("./disk.ts", "-n0", "--stall-timeout=0");
  const pid = await device.serverPid();
  expect(readFileSync(`/proc/${pid}/oom_score_adj`, "utf8")).toBe("0\n");
  // All of the machine's memory takes longer to fill.
  using group = new MemoryGroup(pid, 256 * 1024 ** 2);
  await dies(device, user);
  expect(group.kills).toBe(1);
});

/** A control group of one process and so much memory. */
class MemoryGroup implements Disposable {
  readonly #folder = "/sys/fs/cgroup/ublk-test";

  constructor(pid: number, maxBytes: number) {
    writeFileSync("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
    mkdirSync(this.#folder);
    writeFileSync(`${this.#folder}/memory.max`, String(maxBytes));
    writeFileSync(`${this.#folder}/cgroup.procs`, String(pid));
  }

  /** How often the kernel has ended a process of it for memory. */
  get kills(): number {
    const events = readFileSync(`${this.#folder}/memory.events`, "utf8");
    return Number(/^oom_kill (\d+)$/m.exec(events)?.[1]);
  }

  [Symbol.dispose](): void {
    rmdirSync(this.#folder);
  }
}

test("a background that never rests does not keep requests from being answered", async () => {
  using user = new UserFolder();
  user.target(
    "disk.ts",
    "",
    "setInterval(() => { const end = performance.now() + 5; while (performance.now() < end); }, 1);",
  );
  await using device = await user.add("./disk.ts", "-n0");
  for (let block = 0; block < 4; block++) await readBlock(device.path, block);
});

test("a target that answers nothing more can still be deleted", async () => {
  using user = new UserFolder();
  user.target(
    "disk.ts",
    `${READ} => offset === 0 ? void into.fill(0) : new Promise<void>(() => {}),`,
  );
  await using device = await user.add("./disk.ts", "-n0", "--io-timeout=1s");
  const waiting = readBlock(device.path, 9).catch(() => {});
  await until(
    "it waits",
    () => !/^\s*0\s+0\s*$/.test(readFileSync("/sys/block/ublkb0/inflight", "utf8")),
  );
  await waiting;
  await ublkOk("del", "0");
  expect((await ublk("list")).stdout).not.toContain("ublkb0");
});

test("close that fails or hangs does not keep the device", async () => {
  using user = new UserFolder();
  user.target("disk.ts", "close: () => new Promise<void>(() => {}),");
  await using device = await user.add("./disk.ts", "-n0", "--io-timeout=1s");
  await runOk("blockdev", "--getsize64", device.path);
  await ublkOk("del", "0");
});
