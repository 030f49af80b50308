// The kernel test server's words become ours, and ours are words that we know.

import { expect, test } from "bun:test";
import { join } from "node:path";

import { addCommand } from "../../src/cli/commands/add.ts";
import { subcommands } from "../../src/cli/commands/index.ts";
import { strictWords } from "../../src/cli/strict.ts";

/** The words that the shim would start ublk-bun with. */
function words(
  line: string,
  env: Record<string, string> = { UBLK_BUN_PROGRAM: "echo" },
): { exitCode: number; out: string; err: string } {
  const child = Bun.spawnSync([join(import.meta.dir, "kublk"), ...line.split(" ")], {
    env: { ...process.env, ...env },
  });
  const [out, err] = [child.stdout, child.stderr].map((stream) => stream.toString().trim());
  return { exitCode: child.exitCode, out: out!, err: err! };
}

async function expectKnown(line: string): Promise<void> {
  const [name, ...rest] = line.split(" ");
  const { load, bare } = subcommands.find((known) => known.name === name)!;
  const { args } = name === "add" ? addCommand(rest) : await load(rest);
  strictWords(rest, args as never, bare);
}

test.each([
  ["add -t null", "--target null -q 2 -d 128 --recovery none --copy"],
  ["add -t loop -q 4 -r 1 FILE", "-q 4 -d 128 --recovery queue --copy"],
  ["add -t loop -r 1 -i 1 -u FILE", "--recovery reissue --user-copy"],
  ["add -t loop -e 1 -g FILE", "--recovery fail --get-data"],
  ["add -t loop -z -q2 -d16 FILE", "-q 2 -d 16 --recovery none --zero-copy"],
  ["add -t null -z --auto_zc --auto_zc_fallback", "--zero-copy --auto-zc --auto-zc-fallback"],
  ["add -t loop --io_desc_size 64 FILE", "--io-desc-size 64"],
  [
    "add -n 3 -t loop --no_auto_part_scan FILE",
    "-n 3 -q 2 -d 128 --recovery none --copy --no-auto",
  ],
  ["add -t null -q 3 --nthreads 3 --quiet --debug_mask ff --no_ublk_fixed_fd", "-q 3"],
  ["add -t loop FILE", "-f FILE"],
  ["add -t stripe -b --auto_zc A B", "--auto-zc --batch"],
  ["add -t loop -q 4 --nthreads 1 -b FILE", "-q 4 -d 128 --recovery none --copy --batch"],
  ["add -t stripe --chunk_size 8192 A B", "--chunk-size 8192 --force -f A -f B"],
  ["add -t fault_inject -q 1 -d 1 --delay_us 60000000", "--delay-us 60000000 --no-wait"],
  [
    "recover -n 0 --foreground -t fault_inject --die_during_fetch 1",
    "recover 0 --die-during-fetch 1",
  ],
  ["recover -n 0 -t loop -q 2 -r 1 -i 1 FILE", "recover 0"],
  ["del -n 7", "del 7 --force"],
  ["del -a", "del --all --force"],
  ["stop -n 7", "stop 7 --force"],
  ["stop -n 7 --safe", "stop 7 --safe"],
  ["update_size -n 7 -s 4096", "update-size 7 --size 4096 --force"],
  ["list -n 0", "list 0"],
  ["list", "list"],
  ["features", "features"],
])("%s", async (line, expected) => {
  const { exitCode, out } = words(line);
  expect(exitCode).toBe(0);
  expect(out).toContain(expected);
  await expectKnown(out);
});

test.each([
  "add -t null --per_io_tasks --nthreads 8",
  "add -t null -q 2 --nthreads 4",
  "add -t null --shmem_zc --htlb FILE",
  "add -t null -u --metadata_size 8",
  "add -t null -u --zoned",
])("%s is not there yet: a test that wants it is skipped", (line) => {
  const { exitCode, out, err } = words(line);
  expect(exitCode).toBe(4);
  expect(out).toBe("");
  expect(err).toMatch(/^kublk: ublk-bun has no .+ yet$/);
});

test("buffers that change their place with every commit are the odd program's", () => {
  const line = "add -t loop -b --auto_zc --rotate_auto_buf FILE";
  expect(words(line, { UBLK_BUN_ODD: "echo" }).out).toContain("--target rotating_loop");
});

test("quiesce says nothing", () => {
  expect(words("quiesce -n 7")).toEqual({ exitCode: 0, out: "", err: "" });
});

test("unknown words are refused", () => {
  expect(words("add -t null --bla").exitCode).toBe(2);
  expect(words("bla").exitCode).toBe(2);
});
