// The daemon's ear: a socket in the run folder, over which another process of root's asks it to let
// go of its device for a successor. Requests and answers are lines of JSON.

import { basename, closeSync, dirname, openSync, unlinkSync } from "../builtin.ts";
import { EXIT, type ExitCode, messageOf, UblkError } from "../errors.ts";
import { within } from "./deadline.ts";
import { diskPath } from "./disk.ts";
import type { Store } from "./store.ts";

/** What a daemon is asked. */
type Request =
  /**
   * End what has begun and keep what is new; the answer comes when all that had begun is answered, and
   * flushed. Then it waits for `go`; whoever hangs up instead has changed his mind, and it goes on serving.
   */
  | { readonly command: "drain"; readonly drainTimeoutMs: number }
  | { readonly command: "go" }
  /** End what has begun, however long that takes, and go. */
  | { readonly command: "leave" };

export type Answer =
  | { readonly ok: true }
  /** `exitCode`: what the command ends with; not given where time was too short. */
  | { readonly ok: false; readonly why: string; readonly exitCode?: ExitCode };

/** The daemon's side of it. */
export interface Ear {
  drain(timeoutMs: number): Promise<Answer>;
  /** After a `drain` that has succeeded: one of these two. */
  go(): Answer;
  stay(): void;
  leave(): Answer;
}

export interface AskOptions {
  readonly store: Store;
  readonly timeoutMs: number;
  readonly drainTimeoutMs: number;
}

/** A server that keeps what is new until it hears more. Disposed of without `letGo`, it goes on serving. */
export interface Drained extends Disposable {
  /** Throws UblkError when it goes on serving instead. */
  letGo(): Promise<void>;
}

/**
 * Asks the server of a device to end what has begun and keep what is new. Throws UblkError (exit 124 where
 * time was too short) when it goes on serving.
 */
export async function askToDrain(id: number, options: AskOptions): Promise<Drained> {
  const { store, timeoutMs, drainTimeoutMs } = options;
  const talk = await Talk.open(store.socketPath(id));
  const orThrow = async (request: Request, waitMs: number) => {
    const answered = await talk.ask(request, waitMs);
    if (!answered.ok) throw refusal(id, answered);
  };
  try {
    await orThrow({ command: "drain", drainTimeoutMs }, drainTimeoutMs + timeoutMs);
  } catch (error) {
    talk[Symbol.dispose]();
    throw error;
  }
  return {
    letGo: () => orThrow({ command: "go" }, timeoutMs),
    [Symbol.dispose]: () => talk[Symbol.dispose](),
  };
}

/** Asks it to go as soon as what has begun is answered, whenever that is. Throws UblkError when it does not. */
export async function askToLeave(id: number, { store, timeoutMs }: AskOptions): Promise<void> {
  using talk = await Talk.open(store.socketPath(id));
  const answered = await talk.ask({ command: "leave" }, timeoutMs);
  if (!answered.ok) throw refusal(id, answered);
}

function refusal(id: number, { why, exitCode }: Answer & { readonly ok: false }): UblkError {
  return new UblkError(`The server of ${diskPath(id)} does not let go: ${why}`, {
    exitCode: exitCode ?? EXIT.timedOut,
    hint:
      exitCode === undefined
        ? "it goes on serving, nothing was changed; a longer time: --drain-timeout, --timeout"
        : "it goes on serving, nothing was changed; without its cache: kill -9 it, then recover",
  });
}

interface Caller {
  text: string;
  /** It has drained us, and has not said yet what comes now. */
  holds: boolean;
  isGone: boolean;
}

/** Hears requests until the process ends. A run folder without room must not end a server. */
export function listen(path: string, ear: Ear): boolean {
  try {
    unlinkIfThere(path);
    Bun.listen<Caller>({
      unix: short(path),
      socket: {
        open(socket) {
          socket.data = { text: "", holds: false, isGone: false };
        },
        async data(socket, bytes) {
          const caller = socket.data;
          caller.text += bytes.toString("utf8");
          const end = caller.text.indexOf("\n");
          if (end < 0) return;
          const line = caller.text.slice(0, end);
          caller.text = caller.text.slice(end + 1);
          socket.write(`${JSON.stringify(await answer(line, ear, caller))}\n`);
        },
        close({ data: caller }) {
          caller.isGone = true;
          if (caller.holds) ear.stay();
        },
      },
    });
    return true;
  } catch {
    return false;
  }
}

/** Each request waits for the answer to the one before: no line follows another unanswered. */
async function answer(line: string, ear: Ear, caller: Caller): Promise<Answer> {
  try {
    const request = JSON.parse(line) as Request;
    if (request.command === "leave") return ear.leave();
    if (request.command === "go" && caller.holds) {
      caller.holds = false;
      return ear.go();
    }
    if (request.command === "drain" && request.drainTimeoutMs >= 0) {
      const drained = await ear.drain(request.drainTimeoutMs);
      if (drained.ok && caller.isGone) ear.stay();
      caller.holds = drained.ok;
      return drained;
    }
    return { ok: false, why: `unknown request: ${line}` };
  } catch (error) {
    return { ok: false, why: messageOf(error) };
  }
}

/** A connection to a daemon. */
class Talk implements Disposable {
  readonly #path: string;
  #socket: Bun.Socket<undefined> | undefined;
  #answered = Promise.withResolvers<Answer>();

  private constructor(path: string) {
    this.#path = path;
    // It may hang up when nobody asks.
    this.#answered.promise.catch(() => {});
  }

  /** Throws UblkError when nobody hears us. */
  static async open(path: string): Promise<Talk> {
    const talk = new Talk(path);
    let text = "";
    try {
      talk.#socket = await Bun.connect<undefined>({
        unix: short(path),
        socket: {
          data(_socket, bytes) {
            text += bytes.toString("utf8");
            const end = text.indexOf("\n");
            if (end < 0) return;
            talk.#answered.resolve(JSON.parse(text.slice(0, end)) as Answer);
            text = text.slice(end + 1);
          },
          close() {
            talk.#answered.reject(talk.#deaf("it hung up"));
          },
        },
      });
    } catch (cause) {
      throw talk.#deaf(messageOf(cause));
    }
    return talk;
  }

  /** One at a time. Throws UblkError when it hangs up, or no answer comes in time. */
  async ask(request: Request, timeoutMs: number): Promise<Answer> {
    this.#socket!.write(`${JSON.stringify(request)}\n`);
    const answered = await within(timeoutMs, this.#answered.promise);
    if (answered === "late") {
      throw new UblkError("The server does not say whether it lets go", {
        exitCode: EXIT.timedOut,
        hint: "see its log, and: ublk-bun list",
      });
    }
    this.#answered = Promise.withResolvers<Answer>();
    this.#answered.promise.catch(() => {});
    return answered;
  }

  [Symbol.dispose](): void {
    this.#socket?.end();
  }

  #deaf(why: string): UblkError {
    return new UblkError(`The server does not hear us at "${this.#path}": ${why}`, {
      hint: "its disk goes on being served; end it and recover instead (kill -9, then recover)",
    });
  }
}

/** A socket's path has at most 107 bytes: through the open folder it is short enough. */
function short(path: string): string {
  if (Buffer.byteLength(path) < 100) return path;
  const folder = openSync(dirname(path), "r");
  // Open for as long as somebody may need it: a process has one such socket.
  setTimeout(() => closeSync(folder), 10_000).unref();
  return `/proc/self/fd/${folder}/${basename(path)}`;
}

function unlinkIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
