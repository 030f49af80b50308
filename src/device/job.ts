// What a launcher asks of the daemon that it starts, and what the daemon answers; plain JSON.

import type { ExitCode } from "../errors.ts";
import type { Made } from "../filters/stack.ts";
import { isFilePath } from "../script/file-path.ts";
import type { Spec } from "../target.ts";
import type { Retarget } from "./retarget.ts";
import type { DeviceRecord } from "./store.ts";

/** The hidden subcommand that becomes the daemon; its argument is a Job. */
export const DAEMON_COMMAND = "__daemon";
/** The daemon writes Reports here, a line each. */
export const REPORT_FD = 3;
/** The device's lock, when the launcher holds it already. */
export const LOCK_FD = 4;

interface CommonJob {
  readonly runDir: string;
  readonly timeoutMs: number;
  /** The file that stdout and stderr go to; "" in the foreground. */
  readonly log: string;
  readonly locked: boolean;
  /** The daemon runs in a mount namespace of its own. */
  readonly ownNamespace: boolean;
  readonly liburing: string;
  /** Also over files that another device uses. */
  readonly force: boolean;
  /** Queue Workers that are started before anything else; the others are when they are needed. */
  readonly threadsAhead?: number;
}

export interface AddJob extends CommonJob {
  readonly verb: "add";
  /** As the record will be; id -1 lets the kernel choose. */
  readonly record: DeviceRecord;
}

/** What a person may say of a recovery. */
export interface RecoverWish {
  /** Serve it as this, instead of what its record says. */
  readonly retarget?: Retarget | undefined;
  /** Also when the target's code is not what it was. */
  readonly acceptChanges?: boolean;
}

export interface RecoverJob extends CommonJob {
  readonly verb: "recover";
  readonly id: number;
  /** What the target's spec says otherwise for this one server. */
  readonly once: Spec;
  /** Of a recovery that nobody has looked into yet: the daemon takes the lock and finds the record itself. */
  readonly wish?: RecoverWish;
  /** Who asks for that, as long as it lives. */
  readonly launcherPid?: number;
  /** To serve it by, and to keep once it is live; without: the record that there is. */
  readonly record?: DeviceRecord;
  /**
   * - recover: take over at once
   * - standby, successor: prepare everything, say `ready`, and take over only when a line comes on
   *   stdin; end when it closes without one. A successor's predecessor lives, and lets go when all that
   *   it began is answered; a standby's has died.
   */
  readonly role: "recover" | "standby" | "successor";
}

export type Job = AddJob | RecoverJob;

export type Report =
  | { readonly kind: "ready" }
  | { readonly kind: "note"; readonly text: string; readonly isWarning?: true }
  | { readonly kind: "live"; readonly id: number }
  | {
      readonly kind: "error";
      readonly message: string;
      readonly hint?: string;
      readonly exitCode: ExitCode;
    };

/** The job is a recovery that nobody has looked into yet. */
export const isUnclaimed = <J extends Pick<Job, "verb">>(job: J): job is J & RecoverJob =>
  job.verb === "recover" && "wish" in job && job.wish !== undefined;

/** The queue Workers to start before anything else. A disk of functions starts its own threads. */
export function threadsOf({ target, filters = [], queues }: Made & { queues: number }): number {
  // The kernel makes no more queues than there are CPUs, whatever is asked for.
  return isFilePath(target) || filters.length > 0
    ? 0
    : Math.min(queues, navigator.hardwareConcurrency);
}
