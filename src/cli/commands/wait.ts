// wait: returns when a disk has the state that is asked for.

import { WAIT_STATES, waitForState } from "../../device/wait.ts";
import { UsageError } from "../../errors.ts";
import { commonArgs, idArgs, jsonArg, requiredId } from "../args.ts";
import { defineCommand } from "../define.ts";
import { printJson } from "../output.ts";
import { openSession } from "../session.ts";

export default defineCommand({
  meta: { name: "wait", description: "Wait until a disk has a state." },
  args: {
    ...idArgs,
    state: {
      type: "string",
      description: `one of ${WAIT_STATES.join(", ")}`,
      valueHint: "STATE",
      default: "live",
    },
    ...jsonArg,
    ...commonArgs,
  },
  run: async ({ args }) => {
    const id = requiredId(args);
    const word = args.state.toLowerCase().replaceAll("-", "_");
    const state = WAIT_STATES.find((known) => known === word);
    if (state === undefined) {
      throw new UsageError(
        `Unknown --state "${args.state}"`,
        `there are: ${WAIT_STATES.join(", ")}`,
      );
    }
    using session = await openSession(args);
    await waitForState(id, state, session);
    if (args.json) printJson({ id, state });
  },
});
