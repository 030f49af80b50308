// A file workload, a process of its own: creates, appends, overwrites, renames, syncs and deletes until a
// file tells it to stop; then writes down what must be there.
//
//   bun files.ts FOLDER LEDGER STOP-FILE SEED

import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";

import { seeded } from "../seeded.ts";

const FILES_MAX = 40;
const FILE_BYTES_MAX = 512 * 1024;
const CHUNK_BYTES_MAX = 64 * 1024;

const [folder = "", ledgerFile = "", stopFile = "", seed = "0"] = process.argv.slice(2);
const random = seeded(Number(seed));
const below = (count: number) => Math.floor(random() * count);
/** What each file must hold. */
const files = new Map<string, Buffer>();
let made = 0;

function bytes(): Buffer {
  const words = new Uint32Array(1 + below(CHUNK_BYTES_MAX / 4));
  for (let i = 0; i < words.length; i++) words[i] = below(2 ** 32);
  return Buffer.from(words.buffer);
}

/** Writes at `offset` of a file, and syncs one write in two. */
function put(name: string, chunk: Buffer, offset: number): void {
  const fd = openSync(join(folder, name), existsSync(join(folder, name)) ? "r+" : "w");
  writeSync(fd, chunk, 0, chunk.length, offset);
  if (random() < 0.5) fsyncSync(fd);
  closeSync(fd);
  const old = files.get(name) ?? Buffer.alloc(0);
  const content = Buffer.alloc(Math.max(old.length, offset + chunk.length));
  old.copy(content);
  chunk.copy(content, offset);
  files.set(name, content);
}

const syncFolder = () => {
  const fd = openSync(folder, "r");
  fsyncSync(fd);
  closeSync(fd);
};

function step(): void {
  const names = [...files.keys()];
  const name = names[below(names.length)];
  const dice = random();
  if (name === undefined || (dice < 0.3 && names.length < FILES_MAX)) {
    return put(`file${made++}`, bytes(), 0);
  }
  const content = files.get(name)!;
  if (dice < 0.6 && content.length < FILE_BYTES_MAX) return put(name, bytes(), content.length);
  if (dice < 0.75) return put(name, bytes(), below(content.length));
  if (dice < 0.85) {
    // Over another one, as editors do.
    const to = names[below(names.length)]!;
    renameSync(join(folder, name), join(folder, to));
    files.delete(name);
    files.set(to, content);
    return syncFolder();
  }
  if (dice < 0.95) {
    unlinkSync(join(folder, name));
    files.delete(name);
    return;
  }
  if (!readFileSync(join(folder, name)).equals(content)) throw new Error(`${name} has changed`);
}

mkdirSync(folder);
while (!existsSync(stopFile)) step();
// One at least.
put("last", bytes(), 0);
const ledger = [...files].map(([name, content]) => [name, Bun.SHA1.hash(content, "hex")]);
writeFileSync(ledgerFile, JSON.stringify(Object.fromEntries(ledger)));
