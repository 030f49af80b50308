// The daemon's ear: a socket in the run folder, over which another process of root's asks it to let
// go of its device for a successor. One request a connection, one line of JSON each way.

import { closeSync, openSync, unlinkSync } from "node:fs";
import { basename, dirname } from "node:path";

import { EXIT, type ExitCode, messageOf, UblkError } from "../errors.ts";
import { within } from "./deadline.ts";
import { diskPath } from "./disk.ts";
import type { Store } from "./store.ts";

/** Asks the daemon to end what has begun and keep what is new, within this time, and then to go. */
export interface LetGo {
  readonly command: "let-go";
  readonly drainTimeoutMs: number;
  /** Only try whether all that has begun ends in time, and go on. */
  readonly stays: boolean;
}

/** `ok` comes when all that had begun is answered, and flushed; the daemon is leaving then. */
export type Answer =
  | { readonly ok: true }
  /** `exitCode`: what the command ends with; not given where time was too short. */
  | { readonly ok: false; readonly why: string; readonly exitCode?: ExitCode };

/**
 * Asks the server of a device to end what has begun and keep what is new, and, unless it `stays`, to go.
 * Throws UblkError (exit 124 where time was too short) when it goes on serving. `died`: what is to take
 * its place has ended.
 */
export async function askToLetGo(
  id: number,
  options: { readonly store: Store; readonly timeoutMs: number; readonly drainTimeoutMs: number },
  { stays, died }: { readonly stays: boolean; readonly died?: Promise<number> },
): Promise<void> {
  const { store, timeoutMs, drainTimeoutMs } = options;
  const request = { command: "let-go", drainTimeoutMs, stays } as const;
  const asked = ask(store.socketPath(id), request, drainTimeoutMs + timeoutMs);
  const answered = await Promise.race([asked, ...(died === undefined ? [] : [died])]);
  if (typeof answered === "number") return; // What the new server died of is for its launcher to tell.
  if (answered.ok) return;
  throw new UblkError(`The server of ${diskPath(id)} does not let go: ${answered.why}`, {
    exitCode: answered.exitCode ?? EXIT.timedOut,
    hint:
      answered.exitCode === undefined
        ? "it goes on serving, nothing was changed; a longer time: --drain-timeout, --timeout"
        : "it goes on serving, nothing was changed; without its cache: kill -9 it, then recover",
  });
}

/** Hears requests until the process ends. A run folder without room must not end a server. */
export function listen(path: string, onRequest: (request: LetGo) => Promise<Answer>): boolean {
  try {
    unlinkIfThere(path);
    Bun.listen<{ text: string }>({
      unix: short(path),
      socket: {
        open(socket) {
          socket.data = { text: "" };
        },
        async data(socket, bytes) {
          socket.data.text += bytes.toString("utf8");
          const end = socket.data.text.indexOf("\n");
          if (end < 0) return;
          const line = socket.data.text.slice(0, end);
          socket.end(`${JSON.stringify(await answer(line, onRequest))}\n`);
        },
      },
    });
    return true;
  } catch {
    return false;
  }
}

async function answer(
  line: string,
  onRequest: (request: LetGo) => Promise<Answer>,
): Promise<Answer> {
  try {
    const request = JSON.parse(line) as LetGo;
    if (request.command === "let-go" && request.drainTimeoutMs >= 0)
      return await onRequest(request);
    return { ok: false, why: `unknown request: ${line}` };
  } catch (error) {
    return { ok: false, why: messageOf(error) };
  }
}

/** Sends one request. Throws UblkError when nobody hears it, or no answer comes in time. */
async function ask(path: string, request: LetGo, timeoutMs: number): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  let text = "";
  const deaf = (why: string) =>
    new UblkError(`The server does not hear us at "${path}": ${why}`, {
      hint: "its disk goes on being served; end it and recover instead (kill -9, then recover)",
    });
  try {
    await Bun.connect<undefined>({
      unix: short(path),
      socket: {
        open(socket) {
          socket.write(`${JSON.stringify(request)}\n`);
        },
        data(_socket, bytes) {
          text += bytes.toString("utf8");
          if (text.includes("\n")) resolve(JSON.parse(text) as Answer);
        },
        close() {
          reject(deaf("it hung up"));
        },
      },
    });
  } catch (cause) {
    throw deaf(messageOf(cause));
  }
  const answered = await within(timeoutMs, promise);
  if (answered !== "late") return answered;
  throw new UblkError("The server does not say whether it lets go", {
    exitCode: EXIT.timedOut,
    hint: "see its log, and: ublk-bun list",
  });
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
