// DEL_DEV: removes the device; done when its id is free again.

import { UBLK_CMD } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const delDev = defineCommand({ name: "DEL_DEV", op: UBLK_CMD.DEL_DEV });
