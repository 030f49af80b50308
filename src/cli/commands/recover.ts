// recover: a new server for a disk whose server has died.

import { defineCommand } from "citty";

import { recoverDevice } from "../../device/begin.ts";
import { commonArgs, idArgs, jsonArg, requiredId } from "../args.ts";
import { finishLaunch, launchArgs } from "../launched.ts";
import { openSession } from "../session.ts";

export default defineCommand({
  meta: { name: "recover", description: "Serve a disk again whose server has died." },
  args: { ...idArgs, ...launchArgs, ...jsonArg, ...commonArgs },
  run: async ({ args }) => {
    const id = requiredId(args);
    using session = await openSession(args);
    const foreground = args.foreground === true;
    await finishLaunch(await recoverDevice(id, { ...session, foreground }), session, args);
  },
});
