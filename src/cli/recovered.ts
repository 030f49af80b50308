// What `recover --all` prints.

import { diskPath } from "../device/disk.ts";
import { recoverAll, type Recovery } from "../device/recover-all.ts";
import type { ExitCode } from "../errors.ts";
import { log } from "../log.ts";
import { print, printJson } from "./output.ts";
import type { Session } from "./session.ts";

/** Recovers every disk that has no server, tells of each, and returns what the command ends with. */
export async function recoverAndPrint(
  session: Session,
  { json, quiet }: { readonly json?: boolean | undefined; readonly quiet?: boolean | undefined },
): Promise<ExitCode> {
  const outcomes: Recovery[] = [];
  const exitCode = await recoverAll(session, (outcome) => {
    outcomes.push(outcome);
    const { id, recovered, serverPid, error } = outcome;
    if (!recovered) log.error(`device ${id}: ${error}`);
    else if (!json && !quiet) print(`${diskPath(id)} is live, pid ${serverPid}`);
  });
  if (json) printJson(outcomes.toSorted((one, other) => one.id - other.id));
  return exitCode;
}
