// docs/writing-a-target.md, as somebody types it who has neither root nor a driver.

import { expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import {
  checkHello,
  checkRam,
  checkTemplate,
  checkUpper,
  hello,
  init,
  ram,
  upper,
} from "../support/tutorial.ts";

const main = resolve(import.meta.dir, "../../src/main.ts");

test("the tutorial's commands do what it says, up to the real disk", async () => {
  const home = mkdtempSync(join(tmpdir(), "tutorial-"));
  try {
    writeFileSync(join(home, "ublk-bun"), `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`);
    chmodSync(join(home, "ublk-bun"), 0o755);
    const env = { ...process.env, PATH: `${home}:${process.env["PATH"]}` };
    const type = async (commands: string, cwd: string) => {
      const child = Bun.spawn(["sh", "-ec", commands], {
        cwd,
        env,
        stdio: ["ignore", "pipe", "inherit"],
      });
      return { output: await new Response(child.stdout).text(), exitCode: await child.exited };
    };
    const begun = await type(init, home);
    expect(begun.output).toContain(
      "disk.ts\npackage.json\ntest.sh\ntsconfig.json\nublk-bun.d.ts\n",
    );
    const folder = join(home, "my-disk");
    writeFileSync(join(folder, "hello.ts"), hello);
    writeFileSync(join(folder, "ram.ts"), ram);
    writeFileSync(join(folder, "upper.ts"), upper);
    const good = await type(checkHello, folder);
    expect(good.output).toContain("6 checks passed");
    expect(good.exitCode).toBe(0);
    const forgetful = await type(checkRam, folder);
    expect(forgetful.output).toContain("--param KEY=VALUE");
    expect(forgetful.output).toContain("FAILED  what was flushed is there after kill -9");
    expect(forgetful.exitCode).toBe(1);
    expect((await type(checkUpper, folder)).output).toContain("6 checks passed");
    expect((await type(checkTemplate, folder)).exitCode).toBe(0);
  } finally {
    rmSync(home, { recursive: true });
  }
}, 60_000);
