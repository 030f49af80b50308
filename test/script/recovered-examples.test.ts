// The examples and the template, opened for a recovery when what they hold their blocks in is gone.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import type { Disk, TargetOptions } from "ublk-bun";

import { loadTarget } from "../../src/script/load.ts";

const top = resolve(import.meta.dir, "../..");
const SIZE = 1 << 20;
let folder = "";
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "recovered-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

async function open(
  file: string,
  params: object,
  isNew: boolean,
  identity = "0123456789abcdef",
): Promise<Disk> {
  const { options } = await loadTarget(join(top, file));
  const context = { deviceId: 0, identity, isNew, queueId: 0, queues: 1 };
  return await (options as TargetOptions<{}>).open(params as never, context);
}

const FILES = ["examples/memory.ts", "examples/sqlite.ts", "src/init/template/disk.ts"];

test.each(FILES)(
  "%s: a file that is gone is not made anew, and works when it is back",
  async (file) => {
    const path = join(folder, file.replaceAll("/", "-"));
    const params = { path, size: SIZE };
    const disk = await open(file, params, true);
    await disk.write!(8192, new Uint8Array(4096).fill(7), { fua: false });
    await disk.flush?.();
    await disk.close?.();
    renameSync(path, `${path}.away`);
    const gone = open(file, params, false);
    await expect(gone).rejects.toThrow(path);
    expect(existsSync(path)).toBe(false);
    renameSync(`${path}.away`, path);
    const back = await open(file, params, false);
    const into = new Uint8Array(4096);
    await back.read(8192, into);
    expect(into).toEqual(new Uint8Array(4096).fill(7));
    await back.close?.();
  },
);

test.each(["examples/memory.ts", "examples/sqlite.ts"])(
  "%s: an empty file in its place is refused, and left as it is",
  async (file) => {
    const path = join(folder, `${file.replaceAll("/", "-")}-empty`);
    writeFileSync(path, "");
    await expect(open(file, { path, size: SIZE }, false)).rejects.toThrow();
    expect(Bun.file(path).size).toBe(0);
  },
);

test("memory.ts: a new disk over an old file has the size that is asked for", async () => {
  const path = join(folder, "old");
  writeFileSync(path, "");
  truncateSync(path, SIZE / 2);
  expect((await open("examples/memory.ts", { path, size: SIZE }, true)).sizeBytes).toBe(SIZE);
  expect(Bun.file(path).size).toBe(SIZE);
});

test("http.ts: another file of the same size is refused to a recovery, also where its cache is there", async () => {
  let etag = '"one"';
  await using server = Bun.serve({
    port: 0,
    fetch: () => {
      const headers = { "accept-ranges": "bytes", etag };
      return new Response(new Uint8Array(SIZE), { headers });
    },
  });
  const params = { url: String(server.url), cache: join(folder, "cache") };
  const file = "examples/http.ts";
  await open(file, params, true, "first");
  await open(file, params, false, "first");
  etag = '"two"';
  const changed = `${params.url} has changed since the disk was made`;
  await expect(open(file, params, false, "first")).rejects.toThrow(changed);
  await open(file, params, true, "second");
  await expect(open(file, params, false, "first")).rejects.toThrow(changed);
  await open(file, params, false, "second");
  etag = '"one"';
  await open(file, params, false, "first");
});
