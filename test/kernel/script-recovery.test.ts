// Recovery and upgrade of a disk whose code is a file: the code, its parameters and its environment.

import { afterEach, expect, test } from "bun:test";
import { readFileSync, renameSync, rmSync } from "node:fs";

import { changedCode } from "../../src/device/code.ts";
import { parseRecord } from "../../src/device/record-text.ts";
import { readBlock, recordText } from "../support/crash.ts";
import {
  leftovers,
  program,
  run,
  runOk,
  TestDevice,
  ublk,
  ublkOk,
  until,
} from "../support/program.ts";
import { sparseFile } from "../support/sparse-file.ts";
import { UserFolder } from "../support/user-target.ts";
import { verifyMeanwhile } from "../support/verify.ts";

const MEMORY = "/dev/shm/script-test";

afterEach(() => {
  rmSync(MEMORY, { force: true });
  expect(leftovers()).toEqual([]);
});

/** A disk over a file in memory, whose first sector tells which version serves it. */
function versions(user: UserFolder, version: string, more = ""): void {
  user.write("part.ts", `export const version = ${JSON.stringify(version)};\n`);
  user.write(
    "disk.ts",
    `import { closeSync, openSync, truncateSync } from "node:fs";
import { defineTarget } from "ublk-bun";
import { version } from "./part.ts";
export default defineTarget({
  params: { path: { type: "path", required: true }, key: { type: "secret" } },
  open({ path, key }) {
    closeSync(openSync(path, "a"));
    truncateSync(path, 24 << 20);
    const memory = Bun.mmap(path, { shared: true });
    const said = \`\${version} \${key ?? "-"} \${process.env.GIVEN ?? "-"} \${process.env.HOME ?? "-"}\\n\`;
    return {
      sizeBytes: memory.length,
      ${more}
      read(offset, into) {
        into.set(memory.subarray(offset, offset + into.length));
        if (offset === memory.length - 4096) into.set(Buffer.from(said));
      },
      write: (offset, from) => memory.set(from, offset),
    };
  },
});
`,
  );
}

/** What the version that serves says of itself. */
const who = async (path: string) =>
  (
    await runOk("sh", "-c", `dd if=${path} bs=4k skip=6143 iflag=direct status=none | head -1`)
  ).trim();

test("the record has path, code and parameters, but no secret; variables come by name alone", async () => {
  using user = new UserFolder();
  versions(user, "one");
  user.write("key", "hush\n");
  const words = ["./disk.ts", "-n0", "-p", `path=${MEMORY}`, "-p", "key=key", "--env", "GIVEN"];
  const missing = await user.ublk("add", ...words);
  expect(missing.stderr).toContain("The variable GIVEN is not set");
  expect(missing.exitCode).toBe(2);
  const env = { GIVEN: "value" };
  const added = await run([program, "add", ...words], { cwd: user.path, env });
  expect(added.exitCode, added.stderr).toBe(0);
  try {
    expect(await who("/dev/ublkb0")).toBe("one hush value -");
    const record = recordText(0);
    expect(record).toContain(`"target": "${user.path}/disk.ts"`);
    for (const part of [
      `path=${MEMORY}`,
      `key=${user.path}/key`,
      `${user.path}/part.ts`,
      '"GIVEN"',
    ]) {
      expect(record).toContain(part);
    }
    expect(record).not.toContain("hush");
    expect(record).not.toContain('"value"');
    await new TestDevice(0).killServer();
    const refused = await ublk("recover", "0");
    expect(refused.stderr).toContain("The variable GIVEN is not set");
    expect(refused.exitCode).toBe(2);
    expect((await new TestDevice(0).report()).state).toBe("QUIESCED");
    const [key, away] = [`${user.path}/key`, `${user.path}/away`];
    renameSync(key, away);
    const secretless = await run([program, "recover", "0"], { cwd: "/", env });
    expect(secretless.stderr).toContain("the file of the secret cannot be read");
    expect(secretless.exitCode).toBe(1);
    expect((await new TestDevice(0).report()).state).toBe("QUIESCED");
    renameSync(away, key);
    const recovered = await run([program, "recover", "0"], { cwd: "/", env });
    expect(recovered.exitCode, recovered.stderr).toBe(0);
    expect(await who("/dev/ublkb0")).toBe("one hush value -");
  } finally {
    await ublk("del", "0", "--force");
  }
});

test("a second disk over the same path is refused", async () => {
  using user = new UserFolder();
  versions(user, "one");
  await using device = await user.add("./disk.ts", "-n0", "-p", `path=${MEMORY}`);
  const second = await user.ublk("add", "./disk.ts", "-n1", "-p", `path=${MEMORY}`);
  expect(second.stderr).toContain(`"${MEMORY}" is in use by device ${device.id}`);
  expect(second.exitCode).toBe(5);
});

test("recover with changed code is refused, naming the file, unless it is accepted", async () => {
  using user = new UserFolder();
  versions(user, "one");
  await using device = await user.add("./disk.ts", "-n0", "-p", `path=${MEMORY}`);
  await device.killServer();
  user.write("part.ts", 'export const version = "two";\n');
  const refused = await ublk("recover", "0");
  expect(refused.stderr).toContain(`has changed since it was made: ${user.path}/part.ts`);
  expect(refused.stderr).toContain("--accept-changes");
  expect(refused.exitCode).toBe(6);
  expect((await device.report()).state).toBe("QUIESCED");
  user.write("part.ts", "export const version = ;\n");
  const broken = await ublk("recover", "0", "--accept-changes");
  expect(broken.stderr).toContain(`${user.path}/part.ts:1:24: Unexpected ;`);
  expect((await device.report()).state).toBe("QUIESCED");
  user.write("part.ts", 'export const version = "two";\n');
  await ublkOk("recover", "0", "--accept-changes");
  expect(await who(device.path)).toStartWith("two");
  // Accepted once, it is what the record says.
  expect(changedCode(parseRecord(recordText(0), 0))).toEqual([]);
});

test("new code of another shape is refused, at upgrade and at recover", async () => {
  using user = new UserFolder();
  user.target("disk.ts", "");
  await using device = await user.add("./disk.ts", "-n0");
  const pid = await device.serverPid();
  user.target("disk.ts", "write: undefined,");
  const upgraded = await ublk("upgrade", "0");
  expect(upgraded.stderr).toContain("its set of attributes is");
  expect(upgraded.exitCode).toBe(1);
  expect(await device.serverPid()).toBe(pid);
  await readBlock(device.path);
  await device.killServer();
  user.target("disk.ts", "sizeBytes: 1 << 20,");
  const recovered = await ublk("recover", "0", "--accept-changes");
  expect(recovered.stderr).toContain("its size in sectors is 2048, the kernel's disk has 49152");
  expect(recovered.exitCode).toBe(1);
  expect((await device.report()).state).toBe("QUIESCED");
  user.target("disk.ts", "");
  await ublkOk("recover", "0", "--quiet");
});

test("upgrade swaps new code in under I/O; promises are waited for", async () => {
  using user = new UserFolder();
  versions(user, "one", "flush: () => Bun.sleep(20),");
  await using device = await user.add("./disk.ts", "-n0", "-q2", "-p", `path=${MEMORY}`);
  await using fio = await verifyMeanwhile(device.path);
  await device.untilBusy();
  versions(user, "two", "flush: () => Bun.sleep(20),");
  expect(await ublkOk("upgrade", "0")).toContain("served by pid");
  expect(await who(device.path)).toStartWith("two");
  expect(fio.running).toBe(true);
  versions(user, "three", "flush: 4,");
  const broken = await ublk("upgrade", "0");
  expect(broken.stderr).toContain("whose flush is not a function");
  expect(broken.exitCode).not.toBe(0);
  expect(await who(device.path)).toStartWith("two");
  const { exitCode, stdout, stderr } = await fio.ended;
  expect({ exitCode, stderr }, stdout).toEqual({ exitCode: 0, stderr: "" });
});

test("its fence keeps a recovery from beginning until the dead server can do no harm", async () => {
  using user = new UserFolder();
  const held = JSON.stringify(`${user.path}/held`);
  const fence = `fence() { if (existsSync(${held})) throw new Error("the old lease lasts"); },`;
  user.target("disk.ts", "", 'import { existsSync } from "node:fs";', fence);
  user.write("held", "");
  await using device = await user.add("./disk.ts", "-n0");
  await device.killServer();
  const record = recordText(0);
  const { exitCode, stderr } = await ublk("recover", "0");
  expect(stderr).toMatch(/disk\.ts:\d+:\d+: fence failed: the old lease lasts/);
  expect(exitCode).toBe(1);
  expect((await device.report()).state).toBe("QUIESCED");
  expect(recordText(0)).toBe(record);
  rmSync(`${user.path}/held`);
  await ublkOk("recover", "0");
  await readBlock(device.path);
});

test("a target or filter that no request may run twice in gets queue, and add says why", async () => {
  using user = new UserFolder();
  user.target("once.ts", "", "", "repeatable: false,");
  user.write(
    "filter.ts",
    `import { defineFilter } from "ublk-bun";
export default defineFilter({ repeatable: false, open: () => ({}) });\n`,
  );
  const why = "its target or a filter says that it does harm to run a request twice";
  const added = async (...words: string[]) => {
    const { stdout, stderr } = await user.ublk("add", ...words, "-n0", "--json");
    return { recovery: JSON.parse(stdout).recovery, stderr };
  };
  {
    await using device = new TestDevice(0);
    const { recovery, stderr } = await added("null", "--filter", "./filter.ts");
    expect(device.id).toBe(0);
    expect(stderr).toContain(
      `--recovery=queue, because ${why}: what a dead server had taken fails`,
    );
    expect(recovery).toBe("queue");
  }
  await using device = new TestDevice(0);
  const { recovery, stderr } = await added("./once.ts", "--recovery=reissue");
  expect(stderr).toContain(`but ${why}`);
  expect(recovery).toBe("reissue");
  await device.killServer();
  const recovered = await user.ublk("recover", "0", "--target", "./once.ts");
  expect(recovered.stderr).toContain(`but ${why}`);
  expect(recovered.exitCode).toBe(0);
  await readBlock(device.path);
});

test("upgrade lets what was answered be flushed first; where that fails or hangs, the old server goes on", async () => {
  using user = new UserFolder();
  const [full, hang] = [`${user.path}/full`, `${user.path}/hang`];
  const flushes = `${user.path}/flushes`;
  const blocks = sparseFile(`${user.path}/blocks`, 1 << 20);
  user.write(
    "disk.ts",
    `import { appendFileSync, existsSync, openSync, readSync, writeSync } from "node:fs";
import { BlockError, defineTarget } from "ublk-bun";
export default defineTarget({
  open() {
    const fd = openSync(${JSON.stringify(blocks)}, "r+");
    const cache = new Map<number, Uint8Array>();
    return {
      sizeBytes: 1 << 20,
      logicalBlockBytes: 4096,
      read(offset, into) {
        for (let at = 0; at < into.length; at += 4096) {
          const kept = cache.get(offset + at);
          if (kept === undefined) readSync(fd, into, at, 4096, offset + at);
          else into.set(kept, at);
        }
      },
      write(offset, from) {
        for (let at = 0; at < from.length; at += 4096) cache.set(offset + at, from.slice(at, at + 4096));
      },
      async flush() {
        appendFileSync(${JSON.stringify(flushes)}, "flush\\n");
        if (existsSync(${JSON.stringify(full)})) throw new BlockError("ENOSPC");
        while (existsSync(${JSON.stringify(hang)})) await Bun.sleep(20);
        for (const [at, bytes] of cache) writeSync(fd, bytes, 0, 4096, at);
        cache.clear();
      },
    };
  },
});
`,
  );
  await using device = await user.add("./disk.ts", "-n0");
  const pid = await device.serverPid();
  const data = `${user.path}/data`;
  const write = (line: string) => {
    user.write("data", line.repeat(8192).slice(0, 65_536));
    return runOk("dd", `if=${data}`, `of=${device.path}`, "bs=4k", "oflag=direct", "status=none");
  };
  const same = (path: string) => runOk("cmp", "-n", "65536", data, path);
  await write("answered, and flushed by nobody yet\n");

  user.write("full", "");
  const failed = await ublk("upgrade", "0");
  expect(failed.stderr).toMatch(/disk\.ts:\d+:\d+: flush failed: ENOSPC/);
  expect(failed.exitCode).toBe(1);
  rmSync(full);
  user.write("hang", "");
  const late = await ublk("upgrade", "0", "--drain-timeout=500ms");
  expect(late.stderr).toContain("did not end within 0.5 s");
  expect(late.exitCode).toBe(124);
  expect(await device.serverPid()).toBe(pid);
  await same(device.path);

  rmSync(hang);
  await until("the late flush has ended", () => readFileSync(blocks)[0] !== 0);
  await write("answered later\n");
  rmSync(flushes);
  await ublkOk("upgrade", "0");
  expect(await device.serverPid()).not.toBe(pid);
  // Asked to drain, and at its end: being told to leave is no third reason.
  expect(readFileSync(flushes, "utf8")).toBe("flush\n".repeat(2));
  await same(blocks);
});

test("a drain that a promise keeps from ending is given up; the old server goes on", async () => {
  using user = new UserFolder();
  const go = JSON.stringify(`${user.path}/go`);
  const read = `read: async (offset: number, into: Uint8Array) => {
      while (offset === 9 * 4096 && !existsSync(${go})) await Bun.sleep(20);
      into.fill(0);
    },`;
  user.target("disk.ts", read, 'import { existsSync } from "node:fs";');
  await using device = await user.add("./disk.ts", "-n0", "--io-timeout=0");
  const pid = await device.serverPid();
  const waiting = readBlock(device.path, 9);
  await device.untilBusy();
  const upgraded = await ublk("upgrade", "0", "--drain-timeout=500ms");
  expect(upgraded.stderr).toContain("did not end within 0.5 s");
  expect(await device.serverPid()).toBe(pid);
  await readBlock(device.path, 1);
  user.write("go", "");
  await waiting;
});
