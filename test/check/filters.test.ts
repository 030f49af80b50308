// Every filter, alone and stacked, over ring targets and targets of functions, through the command
// line's own check: everything compared with a shadow copy, crashes included.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const top = resolve(import.meta.dir, "../..");
const SIZE = 128 * 1024;
let folder = "";

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "ublk-bun-filters-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

function file(name: string, sizeBytes = SIZE): string {
  const path = join(folder, name);
  writeFileSync(path, "");
  truncateSync(path, sizeBytes);
  return path;
}

async function check(...words: string[]) {
  const command = [process.execPath, join(top, "src/main.ts"), "check", ...words, "--json"];
  const child = Bun.spawn(command, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  const { results = [] } = stdout === "" ? {} : JSON.parse(stdout);
  return {
    exitCode: await child.exited,
    stderr,
    failed: results.filter(({ outcome }: { outcome: string }) => outcome === "failed"),
    opens: results[0]?.detail as string | undefined,
  };
}

/** All checks pass; what disk it was. */
async function passes(...words: string[]): Promise<string> {
  const { exitCode, stderr, failed, opens } = await check(...words);
  expect({ exitCode, stderr, failed }).toEqual({ exitCode: 0, stderr: "", failed: [] });
  return opens!;
}

test("cow over a disk that stays as it is, and that may be read-only", async () => {
  const base = file("base");
  const content = crypto.getRandomValues(new Uint8Array(65_536));
  writeFileSync(base, Buffer.concat([content, Buffer.alloc(SIZE - content.length)]));
  const before = Bun.hash(readFileSync(base));
  const opens = await passes("loop", "-f", base, "--read-only", "--filter", "cow=over");
  expect(opens).toBe("128 KiB, blocks of 512 bytes: write, flush, fua, discard, writeZeroes");
  expect(Bun.hash(readFileSync(base))).toBe(before);
  expect(statSync(join(folder, "over")).size).toBeGreaterThan(SIZE);
  // Over what lies in it already.
  await passes("loop", "-f", base, "--filter", "cow=over");
  expect(Bun.hash(readFileSync(base))).toBe(before);
}, 120_000);

test("cow over blocks of 4096 bytes, and over a disk that has neither cache nor discard", async () => {
  const base = file("base4k");
  await passes("loop", "-f", base, "--logical-block-size=4096", "--filter", "cow=over4k");
  writeFileSync(
    join(folder, "plain.ts"),
    `import { defineTarget } from "ublk-bun";
export default defineTarget({ open: () => ({ sizeBytes: ${SIZE}, read(_, into) { into.fill(7); } }) });`,
  );
  const opens = await passes("./plain.ts", "--filter", "cow=overplain");
  expect(opens).toBe("128 KiB, blocks of 512 bytes: write, flush, fua, discard, writeZeroes");
}, 120_000);

test("delay, rate, offset and an error that never comes, stacked over a stripe", async () => {
  const [a, b] = [file("a"), file("b")];
  const opens = await passes(
    "stripe",
    "-f",
    a,
    "-f",
    b,
    "--filter",
    "delay=1ms",
    "--filter",
    "offset=64KiB",
    "--filter",
    "rate=1GiB/s",
    "--filter",
    "error=EIO:0",
  );
  expect(opens).toStartWith("192 KiB, blocks of 512 bytes: write, flush, fua");
}, 120_000);

test("cow over cow over a target of functions; what a filter lacks goes below", async () => {
  const opens = await passes(
    join(top, "examples/sqlite.ts"),
    "--param",
    `path=${join(folder, "db")}`,
    "--param",
    "size=128KiB",
    "--filter",
    "cow=one",
    "--filter",
    "offset=4KiB",
    "--filter",
    "cow=two",
  );
  expect(opens).toStartWith("124 KiB, blocks of 4096 bytes: write, flush");
}, 120_000);

test("a filter of one's own, with parameters, over a disk whose discard it passes on", async () => {
  const log = `${join(top, "examples/log.ts")},path=${join(folder, "log")}`;
  const opens = await passes("loop", "-f", file("logged"), "--filter", log);
  expect(opens).toStartWith("128 KiB, blocks of 512 bytes: write, flush, fua");
  expect(readFileSync(join(folder, "log"), "utf8")).toMatch(/^write fua \d+ \d+$/m);
}, 120_000);

test("error: what fails, fails with that errno; so the check does", async () => {
  const { exitCode, failed } = await check(
    "mem",
    "--size=64KiB",
    "--filter",
    "error=ENOSPC:20%",
    "--seed",
    "1",
  );
  expect(exitCode).toBe(1);
  expect(JSON.stringify(failed)).toContain("--filter error fails this");
}, 120_000);

test("a filter that flushes nothing and says it does is found out", async () => {
  const path = join(folder, "forgetful.ts");
  writeFileSync(
    path,
    `import { defineFilter } from "ublk-bun";
export default defineFilter({
  open(below) {
    const kept = new Map<number, Uint8Array>();
    return {
      async read(offset, into) {
        await below.read(offset, into);
        for (let at = 0; at < into.length; at += 512) {
          const block = kept.get(offset + at);
          if (block) into.set(block, at);
        }
      },
      async write(offset, from) {
        for (let at = 0; at < from.length; at += 512) kept.set(offset + at, from.slice(at, at + 512));
      },
      flush() {},
    };
  },
});`,
  );
  const { exitCode, failed } = await check("loop", "-f", file("lost"), "--filter", path);
  expect(exitCode).toBe(1);
  expect(JSON.stringify(failed)).toContain("what was flushed is there after kill -9");
}, 120_000);

const REFUSED: readonly (readonly [words: string[], exitCode: number, said: string])[] = [
  [["--filter", "dealy=1ms"], 2, 'Unknown filter "dealy"'],
  [["--filter", "delay=0"], 2, "--filter delay=0 delays nothing"],
  [["--filter", "rate=0"], 2, "--filter rate=0 lets nothing through"],
  [["--filter", "error=EFOO"], 2, "--filter error=EFOO is not possible"],
  [["--filter", "error=EIO:2"], 2, 'The rate of --filter error "2" is not possible'],
  [["--filter", "offset=100"], 2, "not a whole number of 512-byte blocks"],
  [["--filter", "cow"], 2, "--filter cow: which file?"],
  [["--filter", "cow=same", "--filter", "cow=./same"], 2, "is used twice by the same disk"],
  [["--filter", "./none.ts"], 1, "none.ts: there is no such file"],
  [["--filter", join(top, "examples/pattern.ts")], 2, "is a target, not a filter"],
  [["--filter", join(top, "examples/log.ts")], 2, 'The parameter "path" is missing'],
];

for (const [words, exitCode, said] of REFUSED) {
  test(`refused: ${words.join(" ").replaceAll(top, "")}`, async () => {
    const result = await check("mem", "--size=64KiB", ...words);
    expect(result.stderr).toContain(said);
    expect(result.exitCode).toBe(exitCode);
    expect(readdirSync(folder)).not.toContain("same");
  });
}

test("what only the disk below shows is said when it opens", async () => {
  const failure = async (...words: string[]) =>
    JSON.stringify((await check("mem", "--size=64KiB", ...words)).failed);
  expect(await failure("--filter", "offset=64KiB")).toContain("leaves no disk");
  const other = file("other", 65_536);
  expect(await failure("--filter", `cow=${other}`)).toContain("is not an overlay of ublk-bun");
  await passes("mem", "--size=32KiB", "--filter", "cow=small");
  expect(await failure("--filter", "cow=small")).toContain("belongs over a disk of 32 KiB");
  writeFileSync(
    join(folder, "nothing.ts"),
    `import { defineFilter } from "ublk-bun";\nexport default defineFilter({ open: () => 5 as never });`,
  );
  expect(await failure("--filter", "./nothing.ts")).toContain(
    "nothing.ts:2: open returned no disk",
  );
}, 120_000);

test("a filter's file is no target", async () => {
  const { exitCode, stderr } = await check(join(top, "examples/log.ts"));
  expect(stderr).toContain("log.ts is a filter, not a target");
  expect(exitCode).toBe(2);
});
