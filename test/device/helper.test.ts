// The helper process as its caller sees it, whatever it does; its own side, and the kernel: test/kernel.

import { afterEach, expect, mock, spyOn, test } from "bun:test";

import type { DevInfo } from "../../src/control/commands/dev-info.ts";
import type { Control } from "../../src/control/control.ts";
import { Helper, type SendOptions } from "../../src/device/helper.ts";
import type { TrappedVerb } from "../../src/device/sender.ts";
import { UblkError } from "../../src/errors.ts";

afterEach(() => void mock.restore());

const TIMEOUT_MS = 500;
const { spawn } = Bun;

/** Lets a shell that runs `script` be the helper; `afterMs`: so long before its caller can look at it. */
function helperIs(script: string, afterMs = 0): void {
  spyOn(Bun, "spawn").mockImplementation(((_: string[], options: object) => {
    const child = spawn(["sh", "-c", script], options);
    Bun.sleepSync(afterMs);
    return child;
  }) as never);
}

/** What the helper's caller hears: "" or an error's words. */
async function said(
  verbs: readonly TrappedVerb[],
  control: Partial<Control> = {},
): Promise<string[]> {
  const options = { control, timeoutMs: TIMEOUT_MS, liburing: "" } as SendOptions;
  const heard: string[] = [];
  await using helper = new Helper({ id: 0, identity: 1n } as DevInfo, options);
  for (const verb of verbs) {
    try {
      await helper.send(verb);
      heard.push("");
    } catch (error) {
      if (!(error instanceof UblkError)) throw error;
      heard.push(`${error.exitCode}: ${error.message}`);
    }
  }
  return heard;
}

test("one process sends one command after the other", async () => {
  helperIs('while read -r verb; do [ "$verb" = stop ] && echo 0 || echo 16; done');
  const [stopped, busy] = await said(["stop", "try-stop"]);
  expect(stopped).toBe("");
  expect(busy).toStartWith("5: TRY_STOP_DEV of device 0");
  expect(Bun.spawn).toHaveBeenCalledTimes(1);
});

test("a helper that dies is told with its last words, whenever that is", async () => {
  for (const afterMs of [0, 100]) {
    helperIs("echo no luck >&2; exit 3", afterMs);
    expect(await said(["stop"])).toEqual(["1: The helper that sent STOP_DEV died: no luck"]);
  }
  helperIs("read -r verb; echo 0; echo no luck >&2");
  const heard = await said(["stop", "stop"]);
  expect(heard).toEqual(["", "1: The helper that sent STOP_DEV died: no luck"]);
});

test("a helper that is stuck keeps nobody longer than the deadline", async () => {
  helperIs("read -r verb; echo 0; read -r verb; exec sleep 60");
  const since = performance.now();
  const [stopped, late] = await said(["stop", "stop"]);
  expect(stopped).toBe("");
  expect(late).toStartWith("124: STOP_DEV of device 0 did not end within 0.5 s");
  // Not the helper's minute.
  expect(performance.now() - since).toBeLessThan(30_000);
});

test("nobody looks for another device with its id once DEL_DEV has failed", async () => {
  let looks = 0;
  const run = () => {
    looks++;
    return Promise.resolve({ id: 0, identity: 1n });
  };
  helperIs("while read -r verb; do echo 16; done");
  await said(["del"], { run } as never);
  spyOn(Bun, "spawn").mockImplementation(() => {
    throw new Error("no more processes");
  });
  await expect(said(["del"], { run } as never)).rejects.toThrow("no more processes");
  looks = 0;
  await Bun.sleep(300);
  expect(looks).toBe(0);
});
