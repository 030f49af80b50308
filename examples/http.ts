// A read-only disk over HTTP: a file on any server that answers range requests, such as an image on
// nginx. What was read once is kept in a folder, and read from there by the next server, too.
//
//   ublk-bun add --target ./http.ts --param url=http://host/disk.img --param cache=/var/cache/disk
import { existsSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { BlockError, defineTarget } from "ublk-bun";

const CHUNK = 64 * 1024;
const TRIES = 4;

export default defineTarget({
  summary: "a file on an HTTP server, read-only, with a local cache",
  params: {
    url: { type: "string", required: true, help: "http or https; the server must answer ranges" },
    cache: { type: "path", required: true, shared: true, help: "folder for what was read" },
  },
  async open({ url, cache }, { identity, isNew }) {
    const head = await fetch(url, { method: "HEAD" });
    const length = Number(head.headers.get("content-length"));
    const version = head.headers.get("etag") ?? head.headers.get("last-modified") ?? "";
    if (!head.ok || head.headers.get("accept-ranges") !== "bytes") {
      throw new Error(`${url}: status ${head.status}, and it must accept ranges of bytes`);
    }
    // Another version of the file has another folder.
    const name = Bun.hash(`${url} ${version} ${length}`).toString(16);
    const folder = join(cache, name);
    // And is another disk: here lie the names of those that were made of this version.
    const made = join(folder, `disk-${identity}`);
    if (!isNew && !existsSync(made)) {
      throw new Error(`${url} has changed since the disk was made, or ${cache} was emptied`);
    }
    mkdirSync(folder, { recursive: true });
    if (isNew) writeFileSync(made, "");

    const sizeOf = (chunk: number) => Math.min(CHUNK, length - chunk * CHUNK);
    const fetchChunk = async (chunk: number): Promise<Uint8Array> => {
      const first = chunk * CHUNK;
      const last = first + sizeOf(chunk) - 1;
      const headers: Record<string, string> = { range: `bytes=${first}-${last}` };
      // A file that has changed is no longer this disk: the server then sends all of it, with 200.
      if (version !== "") headers["if-range"] = version;
      const answer = await fetch(url, { headers });
      if (answer.status !== 206) throw new BlockError("EIO", `${url}: status ${answer.status}`);
      const bytes = await answer.bytes();
      if (bytes.length === sizeOf(chunk)) return bytes;
      throw new Error(`${url}: ${bytes.length} bytes of ${sizeOf(chunk)} at ${first}`);
    };
    const load = async (chunk: number): Promise<Uint8Array> => {
      const path = join(folder, String(chunk));
      const kept = Bun.file(path);
      // A power failure may have left its name alone.
      if (kept.size === sizeOf(chunk)) return kept.bytes();
      for (let tries = 1; ; tries++) {
        try {
          const bytes = await fetchChunk(chunk);
          // Under its name only when it is whole.
          const temporary = `${path}.${process.pid}.${chunk}`;
          await Bun.write(temporary, bytes);
          renameSync(temporary, path);
          return bytes;
        } catch (error) {
          if (error instanceof BlockError || tries === TRIES) throw error;
          await Bun.sleep(100 * 2 ** tries);
        }
      }
    };
    // Whoever asks for a chunk that is on its way waits for the same answer.
    const loading = new Map<number, Promise<Uint8Array>>();
    const chunkOf = (chunk: number) => {
      let promise = loading.get(chunk);
      if (promise === undefined) {
        promise = load(chunk).finally(() => loading.delete(chunk));
        loading.set(chunk, promise);
      }
      return promise;
    };

    return {
      sizeBytes: length - (length % 512),
      async read(offset, into) {
        const first = Math.floor(offset / CHUNK);
        const count = Math.ceil((offset + into.length) / CHUNK) - first;
        const chunks = await Promise.all(
          Array.from({ length: count }, (_, i) => chunkOf(first + i)),
        );
        for (const [i, bytes] of chunks.entries()) {
          const from = (first + i) * CHUNK;
          const start = Math.max(offset, from);
          const end = Math.min(offset + into.length, from + CHUNK);
          into.set(bytes.subarray(start - from, end - from), start - offset);
        }
      },
    };
  },
});
