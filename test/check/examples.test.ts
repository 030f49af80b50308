// Every example through the command line's own check; a new target's folder, too.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import type { TargetOptions } from "ublk-bun";

import { loadTarget } from "../../src/script/load.ts";
import { hello, ram, upper } from "../support/tutorial.ts";

const top = resolve(import.meta.dir, "../..");
const main = join(top, "src/main.ts");
const image = crypto.getRandomValues(new Uint8Array(65_536 * 3 + 1000));
let folder = "";
let server: Bun.Server<undefined>;
const asked = new Set<number>();

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ublk-bun-examples-"));
  server = Bun.serve({
    port: 0,
    fetch(request) {
      const headers = { "accept-ranges": "bytes", etag: '"one"' };
      const range = /^bytes=(\d+)-(\d+)$/.exec(request.headers.get("range") ?? "");
      if (range === null) return new Response(image, { headers });
      const [from, to] = [Number(range[1]), Number(range[2]) + 1];
      // Of what is asked for there for the first time, less than was asked.
      const isShort = request.url.endsWith("/short") && !asked.has(from);
      if (isShort) {
        asked.add(from);
        return new Response(image.slice(from, to - 512), { status: 206, headers });
      }
      return new Response(image.slice(from, to), { status: 206, headers });
    },
  });
});
afterAll(async () => {
  await server.stop(true);
  rmSync(folder, { recursive: true });
});

function file(name: string, sizeBytes: number): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return path;
}

async function run(words: readonly string[], cwd = "/", env: Record<string, string> = {}) {
  const child = Bun.spawn([...words], {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { exitCode: await child.exited, stdout, stderr };
}

const ublk = (...words: string[]) => run([process.execPath, main, ...words]);

const PARAMS: Readonly<Record<string, () => string[]>> = {
  "memory.ts": () => [`path=${join(folder, "memory")}`, "size=256KiB"],
  "sqlite.ts": () => [`path=${join(folder, "db")}`, "size=256KiB"],
  "encrypt.ts": () => {
    const key = join(folder, "key");
    const bytes = Buffer.from(crypto.getRandomValues(new Uint8Array(64)));
    writeFileSync(key, `${bytes.toString("hex")}\n`);
    return [`path=${file("encrypted", 256 * 1024)}`, `key=${key}`];
  },
  "pattern.ts": () => ["size=1TiB"],
  "http.ts": () => [`url=${server.url}`, `cache=${join(folder, "cache")}`],
  "ring-file.ts": () => [`path=${file("ring", 256 * 1024)}`],
};

/** Those that are filters have a test of their own (filters.test.ts). */
const FILTERS = ["log.ts"];
const examples = readdirSync(join(top, "examples")).filter(
  (name) => name.endsWith(".ts") && !FILTERS.includes(name),
);

for (const name of examples) {
  test(`examples/${name} passes every check`, async () => {
    const params = PARAMS[name]!().flatMap((word) => ["--param", word]);
    const { exitCode, stdout, stderr } = await ublk(
      "check",
      join(top, "examples", name),
      ...params,
    );
    expect({ exitCode, stderr, stdout }).toEqual({ exitCode: 0, stderr: "", stdout });
    expect(stdout).toMatch(/^  ok {6}reads the same again/m);
    expect(stdout).toMatch(/^\d+ checks passed$/m);
  }, 120_000);
}

test("http.ts: what the server or the cache has only a part of is fetched again", async () => {
  const url = `${server.url}short`;
  const cache = join(folder, "short");
  const { options } = await loadTarget(join(top, "examples/http.ts"));
  const context = { deviceId: -1, identity: "x", isNew: true, queueId: 0, queues: 1 };
  const read = async () => {
    const disk = await (options as TargetOptions<{}>).open({ url, cache } as never, context);
    const into = new Uint8Array(disk.sizeBytes).fill(0xee);
    await disk.read(0, into);
    return Buffer.compare(into, image.subarray(0, disk.sizeBytes));
  };
  expect(await read()).toBe(0);
  const [version] = readdirSync(cache);
  for (const name of readdirSync(join(cache, version!))) {
    truncateSync(join(cache, version!, name), 100);
  }
  expect(await read()).toBe(0);
});

test("http.ts: a server that is away for a moment is asked again", async () => {
  const fetch = server.fetch.bind(server);
  const up = (port: number) => Bun.serve({ port, fetch: (request) => fetch(request) });
  await using first = up(0);
  const port = first.port!;
  const { options } = await loadTarget(join(top, "examples/http.ts"));
  const context = { deviceId: -1, identity: "x", isNew: true, queueId: 0, queues: 1 };
  const params = { url: String(first.url), cache: join(folder, "away") } as never;
  const disk = await (options as TargetOptions<{}>).open(params, context);
  await first.stop(true);
  const into = new Uint8Array(512);
  const done = disk.read(0, into);
  // The first try is refused; there are three more, in more than a second.
  await Bun.sleep(50);
  await using second = up(port);
  await done;
  expect(second.port).toBe(port);
  expect(Buffer.compare(into, image.subarray(0, 512))).toBe(0);
});

const OWN: Readonly<Record<string, () => string[]>> = {
  loop: () => ["-f", file("loop", 256 * 1024)],
  mem: () => ["--size", "256KiB"],
  stripe: () => ["a", "b", "c"].flatMap((name) => ["-f", file(name, 128 * 1024)]),
};

for (const [name, words] of Object.entries(OWN)) {
  test(`our own ${name} passes`, async () => {
    const { exitCode, stdout } = await ublk("check", name, ...words());
    expect(exitCode, stdout).toBe(0);
  }, 120_000);
}

test("what encrypt.ts writes is AES-256-XTS: IEEE 1619, vector 10", async () => {
  const { stdout, exitCode } = await run([process.execPath, "-e", VECTOR], top);
  expect({ exitCode, stdout }).toEqual({
    exitCode: 0,
    stdout: "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b\n",
  });
});

const VECTOR = `
  import { plugin } from "bun";
  plugin({ name: "api", setup: (build) => void build.module("ublk-bun", () => ({
    exports: { defineTarget: () => {}, BlockError: Error }, loader: "object" })) });
  const { crypt } = await import("./examples/encrypt.ts");
  const key = Buffer.from("27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197169399375105820974944592", "hex");
  const plain = Uint8Array.from({ length: 4096 }, (_, i) => i & 255);
  console.log(Buffer.from(crypt("encrypt", key, 255, plain).subarray(0, 32)).toString("hex"));
`;

test("the same seed sends the same requests, and a failure exits with 1", async () => {
  const path = join(folder, "bad.ts");
  const source = readFileSync(join(top, "examples/sqlite.ts"), "utf8");
  writeFileSync(path, source.replace("from.subarray(at, at + BLOCK)", "from.subarray(0, BLOCK)"));
  const words = ["check", path, "--param", `path=${join(folder, "bad")}`, "--param", "size=256KiB"];
  const [one, other] = [await ublk(...words, "--seed", "7"), await ublk(...words, "--seed", "7")];
  expect(one.exitCode).toBe(1);
  expect(one.stdout).toContain("to see it again: --seed 7\n");
  expect(one.stdout).toContain("expected: what write");
  expect(other.stdout).toBe(one.stdout);
}, 120_000);

test("init writes a folder whose test passes, and none where there is something", async () => {
  const place = join(folder, "my-disk");
  expect((await run([process.execPath, main, "init", "my-disk"], folder)).exitCode).toBe(0);
  const launcher = join(folder, "ublk-bun");
  writeFileSync(launcher, `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`, { mode: 0o755 });
  const tested = await run([join(place, "test.sh")], "/", { UBLK_BUN: launcher });
  expect(tested.exitCode, tested.stdout + tested.stderr).toBe(0);
  const again = await run([process.execPath, main, "init", "my-disk"], folder);
  expect(again).toMatchObject({ exitCode: 1, stdout: "" });
  expect(again.stderr).toContain("is there, and not empty");
  const help = await ublk("help", join(place, "disk.ts"));
  expect(help.stdout).toContain("size=size  size of the disk (default: 64MiB)");
  expect(readdirSync(place).toSorted()).toEqual([
    "disk.ts",
    "package.json",
    "test.sh",
    "tsconfig.json",
    "ublk-bun.d.ts",
  ]);
  const types = await ublk("types");
  expect(types.stdout).toBe(readFileSync(join(place, "ublk-bun.d.ts"), "utf8"));
}, 120_000);

test("what init wrote, and what the tutorial adds, is of the right types; a wrong one is told", async () => {
  const place = join(folder, "typed");
  expect((await run([process.execPath, main, "init", place])).exitCode).toBe(0);
  // As `npm install` would.
  mkdirSync(join(place, "node_modules"));
  symlinkSync(join(top, "node_modules/bun-types"), join(place, "node_modules/bun-types"));
  for (const [name, text] of Object.entries({ hello, ram, upper })) {
    writeFileSync(join(place, `${name}.ts`), text);
  }
  const checkTypes = () => run([process.execPath, "check", "--project", place], place);
  const right = await checkTypes();
  expect(right.exitCode, right.stdout + right.stderr).toBe(0);
  writeFileSync(join(place, "ram.ts"), ram.replace("sizeBytes: size", "sizeBytes: String(size)"));
  const wrong = await checkTypes();
  expect(wrong.exitCode).not.toBe(0);
  expect(wrong.stdout + wrong.stderr).toMatch(/ram\.ts.*sizeBytes|ram\.ts[^]*TS\d+/);
}, 120_000);
