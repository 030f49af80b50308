// types: the types of the module "ublk-bun", for the editor of whoever writes a target.

import { apiTypes } from "../../init/types.ts";
import { defineCommand } from "../define.ts";
import { print } from "../output.ts";

export default defineCommand({
  meta: { name: "types", description: "Print the types of the module that a target imports." },
  args: {},
  run: () => print(apiTypes.trimEnd()),
});
