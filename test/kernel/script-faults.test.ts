// Targets that go wrong: each is told with file and line, and leaves no hung disk and no half-made one.

import { afterEach, expect, test } from "bun:test";
import { mkdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from "node:fs";

import { daemonPids, readBlock } from "../support/crash.ts";
import { leftovers, runOk, TestDevice, ublk, ublkOk, until } from "../support/program.ts";
import { UserFolder } from "../support/user-target.ts";

const log = () => readFileSync("/run/ublk-bun/0.log", "utf8");

afterEach(() => expect(leftovers()).toEqual([]));

const READ = "read: (offset: number, into: Uint8Array)";

/** Waits for the kernel's first read with an answer that never comes. */
const BEFORE_LIVE = `let isProbe = true;
const later = (act: () => void) => { setTimeout(act); return new Promise<void>(() => {}); };`;

/** A ring target of 1 MiB whose `serve` returns this. */
const ring = (handler: string) => `import { defineRingTarget } from "ublk-bun";
export default defineRingTarget({
  data: "none",
  open: () => ({ sizeBytes: 1 << 20, fds: [] }),
  serve: ({ queue }) => ${handler},
});
`;

/** `add` of a target of these members fails, saying this, and nothing is left; more: script-worker.test.ts. */
const refused: Readonly<Record<string, readonly [members: string, said: RegExp, top?: string]>> = {
  "a syntax error": ["read: ;", /disk\.ts:9:11: Unexpected ;/],
  "a read that throws": [
    `${READ} => { throw new Error("no luck"); },`,
    /disk\.ts:9:\d+: reading the first block failed: no luck/,
  ],
  "a read that rejects": [
    'async read() { await 1; throw new BlockError("ENXIO"); },',
    /disk\.ts:9:\d+: reading the first block failed: ENXIO/,
  ],
  "a read that hangs": [
    `${READ} => new Promise<void>(() => {}),`,
    /disk\.ts:9: reading the first block has not ended after 1 s/,
  ],
  "a read that ends the process": [
    `${READ} => { process.exit(3); },`,
    /disk\.ts:9:\d+: reading the first block failed: the target called process\.exit\(3\)/,
  ],
  // The kernel's own first read: before Linux 7 inside START_DEV, then just after it.
  "an exception that nobody catches, before the disk is live": [
    `${READ} => isProbe ? void (isProbe = false) : later(() => { throw new Error("stray"); }),`,
    /stray/,
    BEFORE_LIVE,
  ],
  "process.exit, before the disk is live": [
    `${READ} => isProbe ? void (isProbe = false) : later(() => process.exit(3)),`,
    /the target called process\.exit\(3\)/,
    BEFORE_LIVE,
  ],
};

/** The same of files that are no such target. */
const refusedFiles: Readonly<Record<string, readonly [text: string, said: RegExp]>> = {
  "an export of something else": [
    "\nexport default 4;\n",
    /disk\.ts:2: the default export is not a target, it is of type number/,
  ],
  "a missing package": [
    'import x from "not-there";\nexport default x;\n',
    /disk\.ts:1: Cannot find package 'not-there'/,
  ],
  "a ring target whose serve returns no handler": [
    ring("({}) as never"),
    /disk\.ts:2: serve returned no handler/,
  ],
  "a ring target whose start throws at once": [
    ring('({ start() { throw new Error("no luck"); }, finish() {} })'),
    /no luck/,
  ],
};

/** `add` of a folder's disk.ts says this, and leaves nothing. */
async function isRefused(user: UserFolder, said: RegExp): Promise<void> {
  const { exitCode, stderr } = await user.ublk("add", "./disk.ts", "-n0", "--io-timeout=1s");
  expect(stderr).toMatch(said);
  expect(exitCode, stderr).not.toBe(0);
}

for (const [what, [members, said, top]] of Object.entries(refused)) {
  test(`${what}: add says where, and leaves nothing`, async () => {
    using user = new UserFolder();
    user.target("disk.ts", members, top);
    await isRefused(user, said);
  });
}

test("process.exit later, in every process that has loaded the file: a failed add leaves nothing", async () => {
  for (const ms of [300, 600, 900, 1200]) {
    using user = new UserFolder();
    user.target("disk.ts", "", `setTimeout(() => process.exit(0), ${ms});`);
    const { exitCode, stderr } = await user.ublk("add", "./disk.ts", "-n0");
    // Late enough, and the disk is served first.
    if (exitCode === 0) await ublkOk("del", "0", "--force");
    else expect(stderr).toContain("process.exit(0)");
    expect(leftovers()).toEqual([]);
  }
});

for (const [what, [text, said]] of Object.entries(refusedFiles)) {
  test(`${what}: add says where, and leaves nothing`, async () => {
    using user = new UserFolder();
    user.write("disk.ts", text);
    await isRefused(user, said);
  });
}

test("a ring target that throws ends its server; changed code is refused until it is accepted", async () => {
  using user = new UserFolder();
  const nine = "if (queue.offsetBytes(tag) === 9 * 4096) throw new Error(`no ${tag}`);";
  const start = (first: string) =>
    ring(`({
      start(tag) {
        ${first}
        queue.complete(tag, queue.lengthBytes(tag));
      },
      finish() {},
    })`);
  user.write("disk.ts", start(nine));
  await using device = await user.add("./disk.ts", "-n0");
  const waiting = readBlock(device.path, 9);
  await device.untilState("QUIESCED");
  expect(log()).toMatch(/Error: no \d+[^]*disk\.ts:7:\d+/);
  user.write("disk.ts", start(""));
  const changed = await ublk("recover", "0");
  expect(changed.stderr).toContain(`has changed since it was made: ${user.path}/disk.ts`);
  expect(changed.exitCode).toBe(6);
  await ublkOk("recover", "0", "--quiet", "--accept-changes");
  await waiting;
});

for (const [when, first, last] of [
  ["before it has answered", "throw", ""],
  ["once it has answered", "", "throw"],
] as const) {
  test(`under a filter, too: what it throws ${when} is not lost`, async () => {
    using user = new UserFolder();
    const start = (before: string, after: string) =>
      ring(`({
      start(tag) {
        const at = queue.offsetBytes(tag);
        ${before}
        queue.complete(tag, queue.lengthBytes(tag));
        ${after}
      },
      finish() {},
    })`);
    const thrown = (word: string) =>
      word && `if (at === 9 * 4096) ${word} new Error(\`not \${at}\`);`;
    user.write("disk.ts", start(thrown(first), thrown(last)));
    await using device = await user.add("./disk.ts", "-n0", "--filter", "delay=1ms");
    const waiting = readBlock(device.path, 9);
    await device.untilState("QUIESCED");
    expect(log()).toMatch(/queue worker died: Error: not 36864[^]*disk\.ts:\d+:\d+/);
    user.write("disk.ts", start("", ""));
    await ublkOk("recover", "0", "--quiet", "--accept-changes");
    await waiting;
  });
}

test("a flush that is a generator has flushed nothing: EIO, and the log says why", async () => {
  using user = new UserFolder();
  user.target("disk.ts", "async *flush() {},");
  await using device = await user.add("./disk.ts", "-n0");
  const write = ["if=/dev/zero", `of=${device.path}`, "bs=4096", "count=1", "conv=fsync"];
  await expect(runOk("dd", ...write)).rejects.toThrow("Input/output error");
  await until("it is in the log", () => log().includes("; answered EIO"));
  expect(log()).toMatch(
    /disk\.ts:\d+: flush failed: it returned something of type object: it must return nothing; answered EIO/,
  );
});

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

test("process.exit in a ring target's main thread ends its server too, and the log says where", async () => {
  using user = new UserFolder();
  const file = (early: string) => `import { existsSync } from "node:fs";
import { defineRingTarget } from "ublk-bun";
const leave = () => { process.exit(0); };
export default defineRingTarget({
  data: "none",
  open() { ${early} return { sizeBytes: 1 << 20, fds: [] }; },
  serve: ({ queue }) => ({
    start: (tag) => queue.complete(tag, queue.lengthBytes(tag)), finish() {},
  }),
});
`;
  user.write("disk.ts", file('setInterval(() => existsSync("/tmp/leave") && leave(), 20);'));
  await using device = await user.add("./disk.ts", "-n0");
  try {
    writeFileSync("/tmp/leave", "");
    await device.untilState("QUIESCED");
  } finally {
    rmSync("/tmp/leave", { force: true });
  }
  expect(log()).toMatch(/the target called process\.exit\(0\)[^]*disk\.ts:3:\d+/);
  user.write("disk.ts", file(""));
  await ublkOk("recover", "0", "--quiet", "--accept-changes");
  await readBlock(device.path, 9);
});

test("what a file prints while add loads it is not between the data of --json", async () => {
  using user = new UserFolder();
  user.target("disk.ts", "", 'console.log("hello");');
  const { stdout, stderr } = await user.ublk("add", "./disk.ts", "-n0", "--json");
  await using device = new TestDevice(0);
  expect(JSON.parse(stdout)).toMatchObject({ id: 0, path: device.path });
  expect(stderr).toContain("hello");
});

test("an endless loop trips --stall-timeout, and the disk waits for recover", async () => {
  using user = new UserFolder();
  user.target("disk.ts", `${READ} => { while (offset === 9 * 4096); into.fill(0); },`);
  await using device = await user.add("./disk.ts", "-n0", "--stall-timeout=2s");
  await dies(device, user);
  expect(log()).toMatch(/busy with one round for 2000 ms: \S+disk\.ts:9: read does not return/);
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

/** Requests of block 9 never end. */
const NINE_HANGS = `${READ} => offset === 9 * 4096 ? new Promise<void>(() => {}) : void into.fill(0),`;

test("a disk is deleted while a request of it waits for its deadline", async () => {
  using user = new UserFolder();
  user.target("disk.ts", NINE_HANGS);
  await using device = await user.add("./disk.ts", "-n0", "--io-timeout=2s");
  const waiting = readBlock(device.path, 9).catch((error: Error) => error.message);
  await device.untilBusy();
  await ublkOk("del", "0", "--force");
  // An error, and an end.
  expect(await waiting).toBeString();
  expect((await ublk("list")).stdout).not.toContain("ublkb0");
});

test("a request without a deadline: del says what holds it, and works once that is killed", async () => {
  using user = new UserFolder();
  user.target("disk.ts", NINE_HANGS);
  await using device = await user.add("./disk.ts", "-n0", "--io-timeout=0");
  const waiting = readBlock(device.path, 9).catch(() => {});
  await device.untilBusy();
  const pid = await device.serverPid();
  const stuck = await ublk("del", "0", "--force", "--timeout=2s");
  expect(stuck.stderr).toContain(`pid ${pid} (ublk-bun) still holds 1 request`);
  expect(stuck.stderr).toContain("kill -9");
  expect(stuck.exitCode).toBe(124);
  process.kill(pid, "SIGKILL");
  await waiting;
  await until("no process of ours", () => daemonPids().length === 0);
  await ublkOk("del", "0");
});

test.each([
  ["fails", '{ throw new Error("no"); }'],
  ["hangs", "new Promise<void>(() => {})"],
])("close that %s does not keep the device", async (_how, body) => {
  using user = new UserFolder();
  user.target("disk.ts", `close: () => ${body},`);
  await using device = await user.add("./disk.ts", "-n0", "--io-timeout=1s");
  await runOk("blockdev", "--getsize64", device.path);
  await ublkOk("del", "0");
});
