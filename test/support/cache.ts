// The cache outside the repository: folders made once, whole or not at all, by one process.

import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";

/** Where downloads and builds are kept: `$UBLK_BUN_CACHE`, else `~/.cache/ublk-bun`. */
export function cacheRoot(): string {
  return process.env["UBLK_BUN_CACHE"] || join(homedir(), ".cache", "ublk-bun");
}

/** One line of progress on stderr, for steps that take longer than a person likes to wait. */
export function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}

/**
 * The folder `name` under the cache root, filled by `make` the first time. `make` gets an empty
 * folder that is renamed into place only when it returns, so what is there is always complete.
 */
export async function cached(
  name: string,
  make: (folder: string) => Promise<void>,
): Promise<string> {
  const folder = join(cacheRoot(), name);
  if (existsSync(folder)) return folder;
  return exclusive(name, async () => {
    if (existsSync(folder)) return folder;
    const partial = `${folder}.partial`;
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    await make(partial);
    mkdirSync(dirname(folder), { recursive: true });
    renameSync(partial, folder);
    return folder;
  });
}

/** Runs `body` while no other process that uses the same cache runs one with the same name. */
export async function exclusive<T>(name: string, body: () => Promise<T>): Promise<T> {
  const lock = await lockByName(name);
  try {
    return await body();
  } finally {
    lock.stop(true);
  }
}

// An abstract socket's name is the lock: the kernel frees it however its owner dies, so it cannot
// go stale as a lock file does. The name is a hash because it may have 107 bytes at most.
async function lockByName(name: string): Promise<Bun.UnixSocketListener<undefined>> {
  const hash = Bun.hash(join(cacheRoot(), name)).toString(16);
  for (let tries = 0; ; tries++) {
    try {
      return Bun.listen({ unix: `\0ublk-bun-${hash}`, socket: { data() {} } });
    } catch (error) {
      if ((error as { code?: string }).code !== "EADDRINUSE") throw error;
      if (tries === 5) progress(`waiting for another process that is making "${name}"`);
      await Bun.sleep(200);
    }
  }
}
