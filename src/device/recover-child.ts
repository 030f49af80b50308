// `recover ID`, run as a process of its own: what it sets up for the server it starts must not stay
// with whoever wants more than one device recovered.

import { EXIT, type ExitCode, messageOf } from "../errors.ts";
import { setEnv } from "./code.ts";
import { peek } from "./processes.ts";
import { CLEAN_ENV, selfCommand } from "./self.ts";
import { Store } from "./store.ts";

export interface RecoverChildOptions {
  readonly runDir: string;
  readonly timeoutMs: number;
  readonly liburing: string;
  /** Another version of this program. */
  readonly program?: string;
}

/** What became of it. */
export interface Recovered {
  readonly exitCode: ExitCode;
  /** The new server; null where there is none. */
  readonly serverPid: number | null;
  /** Why not, and what else it has said; "" when there was nothing to say. */
  readonly message: string;
}

/** Recovers one device; it goes on when we end, and never fails. */
export async function recoverByChild(
  id: number,
  { runDir, timeoutMs, liburing, program }: RecoverChildOptions,
): Promise<Recovered> {
  const words = ["recover", String(id), "--json", "--run-dir", runDir];
  const record = new Store(runDir).loadIfUsable(id);
  const library = liburing === "" ? [] : ["--liburing", liburing];
  const command = [...words, "--timeout", `${timeoutMs}ms`, ...library];
  let child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  try {
    child = Bun.spawn(selfCommand(command, program), {
      stdio: ["ignore", "pipe", "pipe"],
      // A variable that is not set here, it will name itself.
      env: { ...CLEAN_ENV, ...(record && peek(() => setEnv(record))) },
      cwd: "/",
      // A Ctrl-C is for whoever has started us: a recovery is not left half-way.
      detached: true,
    });
  } catch (error) {
    return { exitCode: EXIT.failed, serverPid: null, message: messageOf(error) };
  }
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const message = stderr.replaceAll("ublk-bun: ", "").trim().replaceAll("\n", "; ");
  if (exitCode !== EXIT.ok) {
    const how = child.signalCode === null ? `exit ${exitCode}` : child.signalCode;
    const known = Object.values(EXIT).find((code) => code === exitCode) ?? EXIT.failed;
    return { exitCode: known, serverPid: null, message: message || `recover ended: ${how}` };
  }
  const { serverPid } = JSON.parse(stdout) as { serverPid: number | null };
  return { exitCode: EXIT.ok, serverPid, message };
}
