// A disk in a SQLite database: one row a block, one transaction from flush to flush. A crash of its server
// takes back what was not flushed, from under a mounted file system too: unmount and check that after it.
//
//   ublk-bun add --target ./sqlite.ts --param path=/srv/disk.db --param size=1GiB
import { Database } from "bun:sqlite";
import { existsSync } from "node:fs";

import { defineTarget } from "ublk-bun";

const BLOCK = 4096;

export default defineTarget({
  summary: "blocks in a SQLite database",
  params: {
    path: { type: "path", required: true, help: "the database; made if it is not there" },
    size: { type: "size", default: "64MiB", help: "size of the disk" },
  },
  open({ path, size }, { isNew }) {
    // Made for a new disk only: after a crash an empty one would be zeroes under a file system.
    if (!isNew && !existsSync(path))
      throw new Error(`${path} is gone, and the disk's blocks with it`);
    const db = new Database(path, { create: isNew, readwrite: true });
    if (isNew) {
      // The file keeps to it: a server that takes over may open while this one writes.
      db.run("PRAGMA journal_mode = WAL");
      db.run("CREATE TABLE IF NOT EXISTS blocks (number INTEGER PRIMARY KEY, data BLOB NOT NULL)");
    }
    // A commit is on the medium when it returns.
    db.run("PRAGMA synchronous = FULL");
    const select = db.query<{ data: Uint8Array }, [number]>(
      "SELECT data FROM blocks WHERE number = ?",
    );
    const put = db.query<null, [number, Uint8Array]>("INSERT OR REPLACE INTO blocks VALUES (?, ?)");
    const remove = db.query<null, [number, number]>(
      "DELETE FROM blocks WHERE number >= ? AND number < ?",
    );

    const begin = () => {
      if (!db.inTransaction) db.run("BEGIN IMMEDIATE");
    };
    const commit = () => {
      if (db.inTransaction) db.run("COMMIT");
    };
    const clear = (offset: number, length: number) => {
      begin();
      remove.run(offset / BLOCK, (offset + length) / BLOCK);
    };

    return {
      sizeBytes: size,
      logicalBlockBytes: BLOCK,
      read(offset, into) {
        for (let at = 0; at < into.length; at += BLOCK) {
          const row = select.get((offset + at) / BLOCK);
          if (row === null) into.fill(0, at, at + BLOCK);
          else into.set(row.data, at);
        }
      },
      write(offset, from) {
        begin();
        for (let at = 0; at < from.length; at += BLOCK) {
          put.run((offset + at) / BLOCK, from.subarray(at, at + BLOCK));
        }
      },
      flush: commit,
      discard: clear,
      writeZeroes: clear,
      close() {
        commit();
        db.close();
      },
    };
  },
});
