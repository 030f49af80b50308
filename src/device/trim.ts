// Gives back the memory that only the start needed, once a daemon serves.

import { readFileSync } from "../builtin.ts";
import { MADV, madvise } from "../ffi/libc.ts";

/**
 * Collects the start's garbage and drops the program's own code from this process's tables. The code
 * stays in the page cache; what is used again comes back by minor faults. Code alone: other read-only
 * mappings may have been written to before (relocations), and dropping them would lose that.
 */
export function trimMemory(): void {
  Bun.gc(true);
  const program = mappedProgram();
  for (const line of readFileSync("/proc/self/maps", "utf8").split("\n")) {
    const match = /^([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ \d+\s+(.*)$/.exec(line);
    if (!match || match[3] !== program) continue;
    const begin = Number.parseInt(match[1]!, 16);
    madvise(begin, Number.parseInt(match[2]!, 16) - begin, MADV.DONTNEED);
  }
}

/** The first mapping of every process is of its program. */
function mappedProgram(): string | undefined {
  const [first = ""] = readFileSync("/proc/self/maps", "utf8").split("\n");
  return /(\/.*)$/.exec(first)?.[1];
}
