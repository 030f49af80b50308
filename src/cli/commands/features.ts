// features: the driver's feature bits, in the kernel test server's format.

import { flagNames } from "../../device/inspect.ts";
import { EXIT, UblkError } from "../../errors.ts";
import { commonArgs, jsonArg } from "../args.ts";
import { defineCommand } from "../define.ts";
import { print, printJson } from "../output.ts";
import { openSession } from "../session.ts";

export default defineCommand({
  meta: { name: "features", description: "Show what this kernel's driver can do." },
  args: { ...jsonArg, ...commonArgs },
  run: async ({ args }) => {
    using session = await openSession(args);
    const { features } = session.control;
    if (features === 0n) {
      throw new UblkError("This kernel's driver cannot tell its features", {
        exitCode: EXIT.notSupported,
        hint: "GET_FEATURES came with Linux 6.5",
      });
    }
    if (args.json) return printJson({ features: hex(features), names: flagNames(features) });
    print(`ublk_drv features: ${hex(features)}`);
    for (let i = 0n; i < 64n; i++) {
      const bit = features & (1n << i);
      if (bit === 0n) continue;
      const name = flagNames(bit)[0]!;
      print(`${hex(bit).padEnd(18)}: ${name.startsWith("0x") ? "unknown" : `UBLK_F_${name}`}`);
    }
  },
});

const hex = (bits: bigint) => `0x${bits.toString(16)}`;
