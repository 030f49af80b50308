// A person's file cannot end a command in the middle, nor write between its data.

import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const main = resolve(import.meta.dir, "../../src/main.ts");
const folder = mkdtempSync(join(tmpdir(), "guard-"));
afterAll(() => rmSync(folder, { recursive: true }));

let count = 0;

/** A target of zeroes with these lines before it; its path. */
function target(top: string): string {
  const file = join(folder, `disk${count++}.ts`);
  writeFileSync(
    file,
    `import { defineTarget } from "ublk-bun";
${top}
export default defineTarget({
  open: () => ({ sizeBytes: 1 << 20, read: (_, into) => void into.fill(0) }),
});
`,
  );
  return file;
}

async function ublk(...words: string[]) {
  const child = Bun.spawn([process.execPath, main, ...words], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [stdout, stderr] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { exitCode: await child.exited, stdout, stderr };
}

test.each([
  ["a timer", "setTimeout(() => process.exit(0), 1);", ":2"],
  ["a timer that is given the function", "setTimeout(process.exit, 1, 0);", ":2"],
  [
    "a function of its own",
    "\nconst end = () => { process.exit(0); };\nsetTimeout(end, 1);",
    ":3:",
  ],
  ["a promise", "Promise.resolve().then(() => setTimeout(() => process.exit(0)));", ":2"],
  ["an import", 'import { exit } from "node:process";\nsetTimeout(exit, 1, 0);', ":2"],
])(
  "process.exit from %s ends `check` with an error",
  async (_what, top, line) => {
    const file = target(top);
    const { exitCode, stderr, stdout } = await ublk("check", file, "--json");
    expect(stderr).toStartWith(`ublk-bun: ${file}${line}`);
    expect(stderr).toContain(": process.exit(0) was called");
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
  },
  30_000,
);

test.each([
  ["thrown", 'setTimeout(() => { throw new Error("x") }, 1);'],
  ["a rejection", 'setTimeout(() => void Promise.reject(new Error("x")), 1);'],
])(
  "an error that nobody catches, %s, ends a command, with its place",
  async (_what, top) => {
    // Whatever the file listens to.
    const file = target(`process.on("SIGTERM", () => {});\n${top}`);
    const { exitCode, stderr, stdout } = await ublk("check", file, "--json");
    expect(stderr).toMatch(new RegExp(`^ublk-bun: ${file}:3:\\d+: nobody caught: x$`, "m"));
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
  },
  30_000,
);

test("process.exitCode of a file is not the command's", async () => {
  expect((await ublk("help", target("process.exitCode = 77;"))).exitCode).toBe(0);
});

test("what the runtime's own modules throw is placed in the file", async () => {
  const file = join(folder, "opens.ts");
  writeFileSync(
    file,
    `import { open } from "node:fs/promises";
import { defineTarget } from "ublk-bun";
export default defineTarget({
  open: () => open("/nowhere/at/all") as never,
});
`,
  );
  const { stdout } = await ublk("check", file);
  expect(stdout).toContain(`${file}:4`);
  expect(stdout).not.toContain("/promises:");
}, 30_000);

test("what a file does at the end of the process makes no success of a command", async () => {
  const file = target('process.on("exit", () => process.exit(0));');
  const { exitCode, stderr } = await ublk("check", file, "--param=none=1");
  expect(exitCode).toBe(1);
  expect(stderr).toContain(`${file}:2`);
});

test("process.exit of a disk under check is told by the check", async () => {
  const file = join(folder, "exits.ts");
  writeFileSync(
    file,
    `import { defineTarget } from "ublk-bun";
export default defineTarget({
  open: () => ({ sizeBytes: 1 << 20, read() { process.exit(0); } }),
});
`,
  );
  const { exitCode, stdout } = await ublk("check", file);
  expect(stdout).toContain("the target ended its process (exit code 0)");
  expect(exitCode).toBe(1);
}, 30_000);

test("what a file writes to stdout goes to stderr", async () => {
  const file = target(`console.log("log"); console.info("info"); console.debug("debug");
console.table([["table"]]); process.stdout.write("write\\n"); await Bun.write(Bun.stdout, "bun\\n");`);
  const help = await ublk("help", file);
  expect(help.stdout).toStartWith(`${file}: a target\n\nUsage: `);
  for (const word of ["log", "info", "debug", "table", "write", "bun"]) {
    expect(help.stderr).toContain(word);
  }
  const check = await ublk("check", file, "--json");
  expect(JSON.parse(check.stdout)).toMatchObject({ target: file });
  expect(check.exitCode).toBe(0);
}, 30_000);
