// What a test script's end means. Its exit status alone does not tell: several run their steps in the
// background and lose the status.

/** "lacks": it wants what ublk-bun does not have yet, as test/support/kublk says. */
export type Outcome = "pass" | "skip" | "lacks" | "fail";

/** What is known of a script that has ended. */
export interface End {
  readonly exitCode: number;
  readonly output: string;
  /** Bad lines of the kernel's log. */
  readonly problems: readonly string[];
  /** Devices that it did not remove. */
  readonly left: readonly string[];
}

/** The kernel's test framework's own status for a test that does not apply. */
const SKIP_EXIT = 4;
const LACKS = /^kublk: ublk-bun has no .+ yet$/m;
/** What the scripts say of a failure whose status they lose. */
const LOST =
  /\[FAIL\]|isn't removed|isn't dead|isn't quiesced|faile? to (?:add|recover)|delete dev \S+ failed/;

/** pass only where nothing speaks against it. */
export function judge({ exitCode, output, problems, left }: End): Outcome {
  if (problems.length > 0) return "fail";
  if (LACKS.test(output)) return "lacks";
  if (exitCode === SKIP_EXIT) return "skip";
  return exitCode === 0 && left.length === 0 && !LOST.test(output) ? "pass" : "fail";
}
