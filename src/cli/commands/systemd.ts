// systemd: prints the unit that runs watch, or installs it.

import { resolve } from "../../builtin.ts";
import { ownProgram } from "../../device/self.ts";
import { installUnit, UNIT_DIR, UNIT_NAME, unitText } from "../../device/unit.ts";
import { UsageError } from "../../errors.ts";
import { commonArgs, timeoutOf } from "../args.ts";
import { defineCommand } from "../define.ts";
import { print } from "../output.ts";
import { readWatchArgs, watchArgs } from "../watch-args.ts";

/** What the unit hands on to watch. */
const handedOn = { ...watchArgs, ...commonArgs } as const;

export default defineCommand({
  meta: { name: "systemd", description: "Print or install a systemd unit for watch." },
  args: {
    install: { type: "boolean", description: `write it to ${UNIT_DIR}` },
    force: { type: "boolean", description: "with --install: over a unit that says something else" },
    ...handedOn,
  },
  run: ({ args }) => {
    readWatchArgs(args);
    timeoutOf(args);
    if (args.force && !args.install) {
      throw new UsageError("--force is given without --install", "it is about overwriting");
    }
    const runDir = resolve(args["run-dir"]);
    const paths = { "run-dir": runDir, liburing: args.liburing && resolve(args.liburing) };
    const words = Object.entries({ ...args, ...paths }).flatMap(([name, value]) => {
      const option = handedOn[name as keyof typeof handedOn];
      const isDefault = option === undefined || !("default" in option) ? undefined : option.default;
      return option === undefined || value === undefined || value === isDefault
        ? []
        : [value === true ? `--${name}` : `--${name}=${value}`];
    });
    const text = unitText({ program: ownProgram(), words, runDir });
    if (!args.install) return print(text.trimEnd());
    const isNew = installUnit(text, { force: args.force === true });
    print(
      `${UNIT_DIR}/${UNIT_NAME} is ${isNew ? "written" : "there already"}; now run:\n` +
        `  systemctl daemon-reload\n  systemctl enable --now ${UNIT_NAME}`,
    );
  },
});
