// Runs a program with a deadline, passing on what it prints while it prints it.

import { searchPath } from "../run.ts";

/** How long, and who listens. */
export interface WatchOptions {
  readonly timeoutMs: number;
  readonly onOutput?: ((text: string) => void) | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
}

/** How it ended; `exitCode` is 128 for a program that a signal ended. */
export interface Watched {
  readonly output: string;
  readonly isTimedOut: boolean;
  readonly exitCode: number;
}

/** Runs `words` to their end or to the timeout, passing their output on. */
export async function watch(words: readonly string[], options: WatchOptions): Promise<Watched> {
  const child = Bun.spawn([...words], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, PATH: searchPath(), ...options.env },
  });
  let isTimedOut = false;
  const timer = setTimeout(() => {
    isTimedOut = true;
    child.kill("SIGKILL");
  }, options.timeoutMs);
  let output = "";
  const pass = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const bytes of stream) {
      const text = decoder.decode(bytes, { stream: true });
      output += text;
      options.onOutput?.(text);
    }
  };
  const streams = Promise.all([pass(child.stdout), pass(child.stderr)]);
  await child.exited;
  clearTimeout(timer);
  // What it left running in the background may hold the pipes open for ever.
  await Promise.race([streams, Bun.sleep(1000)]);
  return { output, isTimedOut, exitCode: child.exitCode ?? 128 };
}
