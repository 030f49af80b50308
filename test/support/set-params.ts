// `kublk set_params`: ADD_DEV, SET_PARAMS and DEL_DEV with chosen parameters, to see which of them the
// kernel refuses. No disk comes of it, so ublk-bun itself has no such command.
//
//   bun test/support/set-params.ts [-n ID] [-q QUEUES] [-d DEPTH] [-u] [--zoned]
//       [--param_types none|basic[,zoned]] [--max_sectors N] …

import { parseArgs } from "node:util";

import { addDev, ANY_DEVICE } from "../../src/control/commands/add-dev.ts";
import { delDev, setParams } from "../../src/control/commands/index.ts";
import { Control } from "../../src/control/control.ts";
import { KernelError } from "../../src/errors.ts";
import { liburingPath, loadLiburing } from "../../src/ffi/liburing.ts";
import { UBLK_F, UBLK_PARAM_TYPE } from "../../src/ffi/ublk.ts";

const TIMEOUT_MS = 30_000;
const IO_BUF_BYTES = 1024 ** 2;
const SECTOR_BYTES = 512;

const number = (value: string, short?: string) =>
  ({ type: "string", default: value, ...(short === undefined ? {} : { short }) }) as const;

const { values } = parseArgs({
  options: {
    number: number("-1", "n"),
    queues: number("2", "q"),
    depth: number("128", "d"),
    user_copy: { type: "boolean", short: "u", default: false },
    zoned: { type: "boolean", default: false },
    param_types: number("basic"),
    logical_bs_shift: number("9"),
    physical_bs_shift: number("12"),
    io_min_shift: number("9"),
    io_opt_shift: number("12"),
    max_sectors: number(String(IO_BUF_BYTES / SECTOR_BYTES)),
    chunk_sectors: number("128"),
    dev_sectors: number(String(128 * 16)),
    max_zone_append_sectors: number("8"),
    max_open_zones: number("0"),
    max_active_zones: number("0"),
  },
});

const typeBits: Readonly<Record<string, number>> = {
  none: 0,
  basic: UBLK_PARAM_TYPE.BASIC,
  zoned: UBLK_PARAM_TYPE.ZONED,
};

const params = {
  types: values.param_types.split(",").reduce((bits, name) => bits | typeBits[name]!, 0),
  basic_logical_bs_shift: Number(values.logical_bs_shift),
  basic_physical_bs_shift: Number(values.physical_bs_shift),
  basic_io_min_shift: Number(values.io_min_shift),
  basic_io_opt_shift: Number(values.io_opt_shift),
  basic_max_sectors: Number(values.max_sectors),
  basic_chunk_sectors: Number(values.chunk_sectors),
  basic_dev_sectors: BigInt(values.dev_sectors),
  zoned_max_open_zones: Number(values.max_open_zones),
  zoned_max_active_zones: Number(values.max_active_zones),
  zoned_max_zone_append_sectors: Number(values.max_zone_append_sectors),
};

using control = await Control.open({
  liburing: loadLiburing(liburingPath()),
  timeoutMs: TIMEOUT_MS,
});
const wanted = Number(values.number) < 0 ? ANY_DEVICE : Number(values.number);
const info = await control.run(addDev, wanted, {
  id: wanted,
  queues: Number(values.queues),
  depth: Number(values.depth),
  ioBufBytes: IO_BUF_BYTES,
  ioDescBytes: 24,
  flags: (values.user_copy ? UBLK_F.USER_COPY : 0n) | (values.zoned ? UBLK_F.ZONED : 0n),
  identity: 0n,
});
// Only a refusal of the parameters may look like one.
const errno = await control.run(setParams, info.id, params).then(
  () => 0,
  (error: unknown) => (error instanceof KernelError ? error.errno : Promise.reject(error)),
);
await control.run(delDev, info.id, undefined);
console.log(`SET_PARAMS returned ${-errno}`);
process.exitCode = errno === 0 ? 0 : 1;
