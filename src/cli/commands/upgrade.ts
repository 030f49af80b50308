// upgrade: a new server process, usually of a newer version, takes over a disk that is in use.

import { accessSync, resolve, statSync } from "../../builtin.ts";
import type { DevInfo } from "../../control/commands/dev-info.ts";
import { deviceIds } from "../../device/disk.ts";
import { findDevice } from "../../device/find-device.ts";
import { isOurs } from "../../device/identity.ts";
import { serverPid } from "../../device/inspect.ts";
import { type Upgraded, upgradeDevice } from "../../device/upgrade.ts";
import { messageOf, UblkError, UsageError } from "../../errors.ts";
import { OK } from "../../ffi/libc.ts";
import { log } from "../../log.ts";
import { commonArgs, idArgs, jsonArg, optionalId, quietArg, timeOf } from "../args.ts";
import { defineCommand } from "../define.ts";
import { print, printJson } from "../output.ts";
import { openSession, type Session } from "../session.ts";

export default defineCommand({
  meta: { name: "upgrade", description: "Let another server process take over a disk in use." },
  args: {
    ...idArgs,
    all: { type: "boolean", alias: "a", description: "every disk of ours that is served" },
    binary: {
      type: "string",
      description: "the ublk-bun that is to serve from now on; default: this one",
      valueHint: "PATH",
    },
    "drain-timeout": {
      type: "string",
      description: "how long requests under way may take; then the old server goes on",
      valueHint: "TIME",
      default: "10s",
    },
    "allow-errors": {
      type: "boolean",
      description: "also where --recovery lets requests fail meanwhile",
    },
    ...jsonArg,
    ...quietArg,
    ...commonArgs,
  },
  run: async ({ args }) => {
    const id = optionalId(args);
    if ((id === undefined) === (args.all !== true)) {
      throw new UsageError("Which device?", "give its number, or --all");
    }
    const binary = args.binary === undefined ? undefined : programAt(args.binary);
    const drainTimeoutMs = timeOf(args["drain-timeout"], "--drain-timeout");
    using session = await openSession(args);
    session.store.prepare();
    const options = {
      ...session,
      binary,
      drainTimeoutMs,
      allowErrors: args["allow-errors"] === true,
    };
    const ids = id === undefined ? await servedIds(session) : [id];
    const done: Upgraded[] = [];
    let failure: UblkError | undefined;
    for (const each of ids) {
      try {
        const upgraded = await upgradeDevice(each, options);
        done.push(upgraded);
        if (!args.json && !args.quiet) print(textOf(upgraded));
      } catch (error) {
        if (id !== undefined || !(error instanceof UblkError)) throw error;
        log.error(`device ${each}: ${error.message}${error.hint ? ` (${error.hint})` : ""}`);
        failure ??= error;
      }
    }
    if (args.json) printJson(id === undefined ? done : done[0]);
    if (failure !== undefined) process.exitCode = failure.exitCode;
  },
});

function textOf({ id, oldPid, serverPid: pid, pauseMs }: Upgraded): string {
  return `/dev/ublkb${id}: served by pid ${pid} instead of ${oldPid}, pause ${Math.round(pauseMs)} ms`;
}

/** Devices of ours that somebody serves. */
async function servedIds({ control, store }: Session): Promise<number[]> {
  const ids: number[] = [];
  for (const id of deviceIds()) {
    const info = await findDevice(control, id);
    if (info === undefined || info.state !== "LIVE" || serverPid(info) < 0) continue;
    if (isOursOrUnknown(store, info)) ids.push(id);
  }
  return ids;
}

/** Where the record cannot be read, the upgrade of that disk says why, and of no other. */
function isOursOrUnknown(store: Session["store"], info: DevInfo): boolean {
  try {
    return isOurs(store.load(info.id), info);
  } catch {
    return true;
  }
}

function programAt(path: string): string {
  const program = resolve(path);
  try {
    accessSync(program, OK.X);
    if (statSync(program).isFile()) return program;
  } catch (cause) {
    throw notRunnable(path, messageOf(cause));
  }
  throw notRunnable(path, "it is no file");
}

function notRunnable(path: string, why: string): UsageError {
  return new UsageError(`--binary "${path}" cannot be run: ${why}`, "give a ublk-bun executable");
}
