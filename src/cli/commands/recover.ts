// recover: a new server for a disk whose server has died.

import { defineCommand } from "citty";

import { recoverDevice } from "../../device/begin.ts";
import type { Spec } from "../../target.ts";
import { parseInteger } from "../../units.ts";
import { commonArgs, idArgs, jsonArg, requiredId } from "../args.ts";
import { finishLaunch, launchArgs } from "../launched.ts";
import { openSession } from "../session.ts";

const faultArgs = {
  "die-during-fetch": {
    type: "string",
    description: "fault_inject only; 1: this server kills itself while it fetches",
    valueHint: "0|1",
  },
} as const;

export default defineCommand({
  meta: { name: "recover", description: "Serve a disk again whose server has died." },
  args: { ...idArgs, ...faultArgs, ...launchArgs, ...jsonArg, ...commonArgs },
  run: async ({ args }) => {
    const id = requiredId(args);
    const word = args["die-during-fetch"];
    const limits = { min: 0, max: 1 };
    const once: Spec =
      word === undefined
        ? {}
        : { dieDuringFetch: parseInteger(word, "--die-during-fetch", limits) === 1 };
    using session = await openSession(args);
    const foreground = args.foreground === true;
    const options = { ...session, foreground, once };
    await finishLaunch(await recoverDevice(id, options), session, args);
  },
});
