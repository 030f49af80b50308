// __send: sends one STOP_DEV or DEL_DEV, or reads a disk, which may hold its process in the kernel for ever.

import { defineCommand } from "citty";

import { sendTrapped } from "../../device/helper.ts";
import { openSession } from "../session.ts";

export default defineCommand({
  meta: { name: "__send", hidden: true },
  args: {
    verb: { type: "positional", required: true },
    id: { type: "positional", required: true },
    liburing: { type: "positional", required: false },
    identity: { type: "positional", required: false },
  },
  run: async ({ args }) => {
    const { verb, id, liburing, identity = "" } = args;
    using session = await openSession({ timeout: "30s", "run-dir": "/", liburing });
    await sendTrapped(session.control, verb, Number(id), identity);
  },
});
