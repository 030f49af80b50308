// The data modes as the control path sees them: their flags, which kernels have them, which targets
// can run in them. What they do is in queue/buffers.ts.

import { EXIT, UblkError, UsageError } from "../errors.ts";
import { UBLK_F } from "../ffi/ublk.ts";
import type { Mode } from "../queue/protocol.ts";
import type { Target } from "../target.ts";

export type { Mode };

interface ModeFacts {
  readonly flags: bigint;
  /** The Linux version that brought it; for people. */
  readonly since: string;
  /** Whether a target that wants the address of the data can run in it. */
  readonly hasAddress: boolean;
}

export const MODES: Readonly<Record<Mode, ModeFacts>> = {
  copy: { flags: 0n, since: "6.0", hasAddress: true },
  "get-data": { flags: UBLK_F.NEED_GET_DATA, since: "6.0", hasAddress: true },
  "user-copy": { flags: UBLK_F.USER_COPY, since: "6.5", hasAddress: true },
  "zero-copy": { flags: UBLK_F.SUPPORT_ZERO_COPY, since: "6.15", hasAddress: false },
  "auto-zc": { flags: UBLK_F.AUTO_BUF_REG, since: "6.16", hasAddress: false },
  "auto-zc-fallback": {
    flags: UBLK_F.AUTO_BUF_REG | UBLK_F.SUPPORT_ZERO_COPY,
    since: "6.16",
    hasAddress: false,
  },
};

/**
 * The mode of a new device. `wish` undefined or "auto": the fastest that kernel and target allow for
 * a target that moves data to and from files, copy for the others. Throws where it cannot be had.
 */
export function chooseMode(
  wish: Mode | "auto" | undefined,
  target: Pick<Target, "name" | "data">,
  features: bigint,
): Mode {
  if (wish === undefined || wish === "auto") {
    const best = MODES["auto-zc"].flags;
    return target.data === "transfer" && (features & best) === best ? "auto-zc" : "copy";
  }
  const { flags, since, hasAddress } = MODES[wish];
  if (target.data === "address" && !hasAddress) {
    throw new UsageError(
      `Target ${target.name} cannot run with --${wish}: it works on the data itself`,
      "leave the mode out, or use --user-copy",
    );
  }
  // A kernel that cannot tell its features (before 6.5) is asked by ADD_DEV.
  if (features !== 0n && (flags & ~features) !== 0n) throw unsupportedMode(wish, since);
  return wish;
}

/** The mode of a device of these flags. */
export function modeOf(flags: bigint): Mode {
  // Of two that fit the one with more flags is meant.
  const fitting = (Object.keys(MODES) as Mode[]).filter((mode) => {
    const needed = MODES[mode].flags;
    return (flags & needed) === needed;
  });
  return fitting.at(-1)!;
}

/** Whether a device of these flags is served by batch commands. */
export const isBatch = (flags: bigint): boolean => (flags & UBLK_F.BATCH_IO) !== 0n;

/** Whether a device of these flags can be served in the mode. */
export const isModeGranted = (mode: Mode, granted: bigint): boolean =>
  (MODES[mode].flags & ~granted) === 0n;

/** What ADD_DEV granted must hold what the mode needs: the kernel clears unknown bits silently. */
export function checkModeGranted(mode: Mode, granted: bigint): void {
  if (!isModeGranted(mode, granted)) throw unsupportedMode(mode, MODES[mode].since);
}

function unsupportedMode(mode: Mode, since: string): UblkError {
  return new UblkError(`This kernel does not have --${mode}`, {
    exitCode: EXIT.notSupported,
    hint: `it came with Linux ${since}; see: ublk-bun features`,
  });
}
