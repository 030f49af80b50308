// init: a folder with a target to start from.

import { resolve } from "../../builtin.ts";
import { messageOf, UblkError, UsageError } from "../../errors.ts";
import { initFolder } from "../../init/folder.ts";
import { defineCommand } from "../define.ts";
import { print } from "../output.ts";

export default defineCommand({
  meta: { name: "init", description: "Write a folder with a target to start from." },
  args: { folder: { type: "positional", required: false, description: "a new or empty folder" } },
  run: ({ args: { folder } }) => {
    if (folder === undefined)
      throw new UsageError("Which folder?", "such as: ublk-bun init my-disk");
    let names: string[];
    try {
      names = initFolder(resolve(folder));
    } catch (cause) {
      if (cause instanceof UblkError) throw cause;
      throw new UblkError(`Cannot write ${folder}: ${messageOf(cause)}`, { cause });
    }
    const place = /^[./]/.test(folder) ? folder : `./${folder}`;
    print(
      [
        `${folder}: ${names.join(", ")}`,
        `check it, without root:  ${place}/test.sh`,
        `see its parameters:      ublk-bun help ${place}/disk.ts`,
        `make a disk of it:       ublk-bun add --target ${place}/disk.ts --param path=…`,
      ].join("\n"),
    );
  },
});
