// STOP_DEV and DEL_DEV, sent by a process of their own: they cannot be cancelled, and whoever sent
// one cannot end before it does, not even by kill -9. So whoever waits for it can stop waiting.
// The same with a direct read of a disk. What the process does: sender.ts.

import { readFileSync } from "../builtin.ts";
import type { DevInfo } from "../control/commands/dev-info.ts";
import type { Control } from "../control/control.ts";
import { commandError } from "../control/diagnosis.ts";
import { EXIT, KernelError, UblkError } from "../errors.ts";
import { ERRNO } from "../ffi/errno.ts";
import { within } from "./deadline.ts";
import { inFlight } from "./disk.ts";
import { findDevice } from "./find-device.ts";
import { describeCharHolders } from "./holders.ts";
import { identityText } from "./identity.ts";
import type { KernelParams } from "./param-report.ts";
import { isAlive, peek, processIds } from "./processes.ts";
import { CLEAN_ENV, selfCommand } from "./self.ts";
import { ASK_PARAMS, READ_DISK, SEND, SEND_COMMAND, TRAPPED, type TrappedVerb } from "./sender.ts";

const REUSE_LOOK_MS = 100;
/** An idle helper whose stdin has ended takes no time to end. */
const END_MS_MAX = 1000;
export interface AskOptions {
  readonly timeoutMs: number;
  readonly liburing: string;
}

export interface SendOptions extends AskOptions {
  readonly control: Control;
}

/** A device, and not another one that has got its id. */
export type Which = Pick<DevInfo, "id" | "identity">;

/** The helper process for one device: it sends one command after the other. */
export class Helper implements AsyncDisposable {
  readonly #device: Which;
  readonly #options: SendOptions;
  #process: HelperProcess | undefined;

  constructor(device: Which, options: SendOptions) {
    this.#device = device;
    this.#options = options;
  }

  /**
   * Resolves when the kernel is done with `verb`. KernelError with exit 124 when it is not in time, ENODEV
   * when the device is gone; one that is gone needs no "del".
   */
  async send(verb: TrappedVerb): Promise<void> {
    const { id, identity } = this.#device;
    const { control, timeoutMs, liburing } = this.#options;
    // Once the kernel has begun to take the disk down, sysfs may not tell any more.
    const requestsBefore = inFlight(id);
    const words = [SEND, id, liburing, identityText(identity)];
    const helper = (this.#process ??= new HelperProcess(words));
    const over = new AbortController();
    const reused = verb === "del" ? [untilReused(control, this.#device, over.signal)] : [];
    const asked = helper.ask(timeoutMs, verb, ...reused);
    const answer = await asked.finally(() => over.abort());
    if (answer === "reused") return helper.kill();
    if (answer === "late") {
      throw stuckError(verb, id, timeoutMs, { helper: helper.pid, requestsBefore });
    }
    if (answer === "") {
      const what = `The helper that sent ${TRAPPED[verb].name} died: ${await helper.complaint()}`;
      throw new UblkError(what, { hint: "what became of the device: ublk-bun list" });
    }
    const errno = Number(answer);
    if (errno === ERRNO.ENODEV && verb === "del") return;
    if (errno !== 0) throw commandError(TRAPPED[verb], id, errno);
  }

  /** The process ends by itself; one that is stuck in the kernel, some day. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process?.end();
  }
}

/** GET_PARAMS by a helper process: UblkError when it has no answer in time, or none at all. */
export async function askParams(
  id: number,
  { timeoutMs, liburing }: AskOptions,
): Promise<KernelParams> {
  const what = `The parameters of device ${id} are unknown`;
  const helper = new HelperProcess([ASK_PARAMS, id, liburing]);
  const answer = await helper.ask(timeoutMs);
  await helper.end();
  if (answer === "late") throw new UblkError(`${what}: somebody is at it`);
  if (answer === "") throw new UblkError(`${what}: ${await helper.complaint()}`);
  const words = JSON.parse(answer) as Record<string, number | string>;
  const values = Object.entries(words).map(([field, value]) => [
    field,
    typeof value === "string" ? BigInt(value) : value,
  ]);
  return Object.fromEntries(values) as KernelParams;
}

/** Reads the first block by a helper process; UblkError when that is not back in time. */
export async function readByHelper(id: number, { timeoutMs, liburing }: AskOptions): Promise<void> {
  const what = `The disk of device ${id} cannot be read`;
  const helper = new HelperProcess([READ_DISK, id, liburing]);
  const answer = await helper.ask(timeoutMs);
  await helper.end();
  if (answer === "late") {
    const text = `${what}: pid ${helper.pid} goes on trying`;
    throw new UblkError(text, { exitCode: EXIT.timedOut });
  }
  if (answer === "") throw new UblkError(`${what}: ${await helper.complaint()}`);
}

/** True while a helper of ours waits for the kernel to be done with a command to this device. */
export function isBeingChanged(id: number): boolean {
  const words = new RegExp(`\\0${SEND_COMMAND}\\0(?!${READ_DISK}\\0)[a-z-]+\\0${id}\\0`);
  return processIds().some((pid) =>
    words.test(peek(() => readFileSync(`/proc/${pid}/cmdline`, "utf8")) ?? ""),
  );
}

class HelperProcess {
  readonly #child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #lines: AsyncIterator<string>;
  #isStuck = false;

  constructor(words: readonly (string | number)[]) {
    this.#child = Bun.spawn(selfCommand([SEND_COMMAND, ...words.map(String)]), {
      // Nothing of the caller's: whoever reads our output to its end must not wait for a stuck helper.
      stdio: ["pipe", "pipe", "pipe"],
      env: { ...CLEAN_ENV },
      cwd: "/",
      detached: true,
    });
    this.#lines = linesOf(this.#child.stdout);
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** Says `line`; the answer, "" when it has died, "late", or what `enough` resolves with before. */
  async ask(
    timeoutMs: number,
    line?: string,
    ...enough: readonly Promise<"reused">[]
  ): Promise<string> {
    if (line !== undefined) {
      this.#child.stdin.write(`${line}\n`);
      try {
        await this.#child.stdin.flush();
      } catch {
        // One that has died says so by its end.
      }
    }
    const next = this.#lines.next().then(({ value, done }) => (done ? "" : value));
    const answer = await within(timeoutMs, Promise.race([next, ...enough]));
    this.#isStuck = answer === "late";
    return answer;
  }

  /** What it has said before it died. */
  async complaint(): Promise<string> {
    const words = await within(END_MS_MAX, new Response(this.#child.stderr).text());
    return words.trim();
  }

  /** Lets it end; resolves when it has, or when it is stuck. */
  async end(): Promise<void> {
    void this.#child.stdin.end();
    const isOver = !this.#isStuck && (await within(END_MS_MAX, this.#child.exited)) !== "late";
    if (!isOver) this.#child.unref();
  }

  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string, undefined> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of stream) {
    text += decoder.decode(bytes, { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    yield* lines;
  }
  return undefined;
}

/**
 * Resolves when another device has got the id. The kernel frees an id and then wakes whoever waits in
 * DEL_DEV for it to be free: should somebody have it again by then, DEL_DEV would wait for that one's end.
 */
async function untilReused(
  control: Control,
  { id, identity }: Which,
  over: AbortSignal,
): Promise<"reused"> {
  while (!over.aborted) {
    await Bun.sleep(REUSE_LOOK_MS);
    const info = over.aborted ? undefined : await findDevice(control, id);
    if (info !== undefined && info.identity !== identity) break;
  }
  return "reused";
}

function stuckError(
  verb: TrappedVerb,
  id: number,
  timeoutMs: number,
  { helper, requestsBefore }: { helper: number; requestsBefore: number },
): KernelError {
  const count = inFlight(id) || requestsBefore;
  const holders = describeCharHolders(id);
  const requests = `${count} request${count === 1 ? "" : "s"}`;
  const held = count === 0 ? "the device" : requests;
  const why = holders === "" ? `${requests} in flight` : `${holders} still holds ${held}`;
  const goesOn = isAlive(helper) ? `; pid ${helper} goes on waiting for it in the kernel` : "";
  return new KernelError(
    `${TRAPPED[verb].name} of device ${id} did not end within ${timeoutMs / 1000} s: ${why}${goesOn}`,
    ERRNO.ETIMEDOUT,
    {
      exitCode: EXIT.timedOut,
      hint:
        holders === ""
          ? "close whatever has the disk open, see: ublk-bun list"
          : "a server that does not answer must be killed (kill -9), which ends the wait",
    },
  );
}
