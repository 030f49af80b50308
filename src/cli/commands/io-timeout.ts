// __io-timeout: the process that gives a disk a short io_timeout; see device/old-kernel.ts.

import { defineCommand } from "citty";

import { setIoTimeout } from "../../device/old-kernel.ts";

export default defineCommand({
  meta: { name: "__io-timeout", hidden: true },
  args: { id: { type: "positional", required: true } },
  run: ({ args }) => setIoTimeout(Number(args.id)),
});
