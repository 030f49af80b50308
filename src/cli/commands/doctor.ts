// doctor: looks for what is wrong with this host's ublk devices and says what to do.

import { resolve } from "../../builtin.ts";
import { examine } from "../../device/doctor.ts";
import { Store } from "../../device/store.ts";
import { EXIT } from "../../errors.ts";
import { commonArgs, jsonArg, timeoutOf } from "../args.ts";
import { defineCommand } from "../define.ts";
import { print, printJson } from "../output.ts";

export default defineCommand({
  meta: { name: "doctor", description: "Look for what is wrong, and say what to do." },
  args: {
    fix: { type: "boolean", description: "mend what can be mended without losing data" },
    ...jsonArg,
    ...commonArgs,
  },
  run: async ({ args }) => {
    const store = new Store(resolve(args["run-dir"]));
    const liburing = args.liburing ?? process.env["UBLK_BUN_LIBURING"] ?? "";
    const findings = await examine({ store, timeoutMs: timeoutOf(args), liburing });
    const reports = findings.map(({ check, what, remedy, fix }) => {
      const isFixed = args.fix === true && fix !== undefined;
      if (isFixed) fix();
      return { check, what, remedy, fixed: isFixed };
    });
    if (args.json) printJson(reports);
    else if (reports.length === 0) print("nothing is wrong");
    else {
      for (const { check, what, remedy, fixed } of reports) {
        print(`${check}: ${what} (${fixed ? "fixed" : remedy})`);
      }
    }
    if (reports.some(({ fixed }) => !fixed)) process.exitCode = EXIT.failed;
  },
});
