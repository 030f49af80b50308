// STOP_DEV: removes the disk; waits, and cannot be interrupted, until its I/O has been answered.

import { UBLK_CMD } from "../../ffi/ublk.ts";
import { defineCommand } from "../command.ts";

export const stopDev = defineCommand({ name: "STOP_DEV", op: UBLK_CMD.STOP_DEV });
