// add: makes a disk and serves it in the background.

import type { CommandDef, ParsedArgs } from "citty";

import { addDevice, type AddWish } from "../../device/begin.ts";
import { type Mode, MODES } from "../../device/modes.ts";
import { RECOVERIES } from "../../device/recovery.ts";
import type { Recovery } from "../../device/store.ts";
import { UsageError } from "../../errors.ts";
import { UBLK_F, UBLK_MAX_QUEUE_DEPTH } from "../../ffi/ublk.ts";
import { parseFilters } from "../../filters/index.ts";
import { type Target, valuesOf } from "../../target.ts";
import { parseBytes, parseInteger, parseMilliseconds } from "../../units.ts";
import { commonArgs, DEVICE_ID_MAX, jsonArg, launchArgs } from "../args.ts";
import { defineCommand } from "../define.ts";
import { finishLaunch } from "../launched.ts";
import { openSession } from "../session.ts";
import { filterArg, targetArg, targetByWord, targetNamed, whichTarget } from "../target-words.ts";

const QUEUES_MAX = 32;
const IO_BUF_BYTES_MAX = 32 * 1024 ** 2;
const PAGE_BYTES = 4096;
const IO_DESC_BYTES_MIN = 24;
const IO_DESC_BYTES_MAX = 256;
const MODE_NAMES = ["auto", ...(Object.keys(MODES) as Mode[])] as const;
const STALL_TIMEOUT_MS_MIN = 500;

export const addArgs = {
  kind: { type: "positional", required: false, description: "the target, without --target" },
  ...targetArg,
  ...filterArg,
  number: { type: "string", alias: "n", description: "device id; -1: a free one", default: "-1" },
  queues: {
    type: "string",
    alias: ["q", "queue"] as string[],
    description: `hardware queues, each with a thread, 1 to ${QUEUES_MAX}; at most one a CPU`,
    default: "1",
  },
  depth: {
    type: "string",
    alias: "d",
    description: `requests in flight per queue, 1 to ${UBLK_MAX_QUEUE_DEPTH}`,
    default: "128",
  },
  "io-buf-size": {
    type: "string",
    alias: "max-io-buf-bytes",
    description: "largest request, 4 KiB to 32 MiB",
    valueHint: "SIZE",
    default: "512KiB",
  },
  recovery: {
    type: "string",
    description: `what happens to I/O when the server dies: ${RECOVERIES.join(", ")}`,
    valueHint: "MODE",
  },
  r: { type: "string", description: "0: --recovery=none, 1: with recovery", valueHint: "0|1" },
  i: { type: "string", description: "1: --recovery=reissue, 0: queue", valueHint: "0|1" },
  e: { type: "string", description: "1: --recovery=fail", valueHint: "0|1" },
  "get-data": {
    type: "boolean",
    alias: "g",
    description: "data mode: writes ask for their buffer, then are copied",
  },
  "user-copy": {
    type: "boolean",
    alias: "u",
    description: "data mode: the server copies by pread and pwrite (Linux 6.5)",
  },
  "zero-copy": {
    type: "boolean",
    alias: "z",
    description: "data mode: I/O on the request's own pages (Linux 6.15)",
  },
  "auto-zc": {
    type: "boolean",
    description: "data mode: as --zero-copy, prepared by the kernel (Linux 6.16)",
  },
  "auto-zc-fallback": {
    type: "boolean",
    description: "as --auto-zc; what the kernel cannot prepare, the server does",
  },
  copy: { type: "boolean", description: "data mode: the kernel copies" },
  auto: {
    type: "boolean",
    description: "the default: the best data mode that kernel and target allow",
  },
  batch: {
    type: "boolean",
    alias: ["b", "batch-io"] as string[],
    description: "one command for many requests (Linux 7.0); not with --get-data",
  },
  "auto-part-scan": {
    type: "boolean",
    description: "look for partitions; --no-auto-part-scan: do not (Linux 7.0)",
    default: true,
  },
  "io-desc-size": {
    type: "string",
    description: "bytes per io descriptor, 24 to 256, a multiple of 8 (Linux 7.2)",
    valueHint: "BYTES",
    default: "24",
  },
  "stall-timeout": {
    type: "string",
    description: "a queue that is busy with one round for so long has hung; 0: never",
    valueHint: "TIME",
    default: "30s",
  },
  force: { type: "boolean", description: "also over a file or device that is in use" },
  wait: {
    type: "boolean",
    description: "return when the disk can be read; --no-wait: when it is there",
    default: true,
  },
  ...launchArgs,
  ...jsonArg,
  ...commonArgs,
} as const;

/** The command for these words: its options are add's own and the target's. */
export function addCommand(words: readonly string[]): CommandDef {
  const target = targetByWord(words);
  // Without its target an option of the target would be an unknown one.
  const isAsked = words.some((word) => /^(--target|--type|-t)/.test(word));
  if (target === undefined && words.length > 0 && !isAsked) throw whichTarget();
  return defineCommand({
    meta: { name: "add", description: `Make a disk and serve it in the background.` },
    args: { ...addArgs, ...target?.args },
    run: ({ args }) => {
      if (target === undefined) throw whichTarget();
      return add(target, args as unknown as ParsedArgs<typeof addArgs>);
    },
  }) as unknown as CommandDef;
}

async function add(target: Target, args: ParsedArgs<typeof addArgs>): Promise<void> {
  await target.load?.();
  const filters = await parseFilters(valuesOf(args.filter));
  const wish = { ...readWish(target, args), ...(filters.length > 0 && { filters }) };
  using session = await openSession(args);
  const { foreground, force, wait: waits } = args;
  const options = { ...session, foreground: foreground === true, force: force === true, waits };
  await finishLaunch(await addDevice(wish, options), session, args);
}

function readWish(target: Target, args: ParsedArgs<typeof addArgs>): AddWish {
  if (args.kind !== undefined && targetNamed(args.kind) !== target) {
    throw new UsageError(`Two targets are named: ${target.name} and ${args.kind}`, "name one");
  }
  const ioBufBytes = parseBytes(args["io-buf-size"], "--io-buf-size");
  if (ioBufBytes < PAGE_BYTES || ioBufBytes > IO_BUF_BYTES_MAX || ioBufBytes % PAGE_BYTES !== 0) {
    throw new UsageError(
      `--io-buf-size ${args["io-buf-size"]} is not possible`,
      "write a multiple of 4 KiB, from 4KiB to 32MiB",
    );
  }
  const ioDescBytes = readIoDescBytes(args["io-desc-size"]);
  const mode = readMode(args);
  const depth = parseInteger(args.depth, "--depth", { min: 1, max: UBLK_MAX_QUEUE_DEPTH });
  const isBatch = args.batch === true;
  if (isBatch) checkBatch(mode, depth);
  return {
    id: parseInteger(args.number, "-n", { min: -1, max: DEVICE_ID_MAX }),
    target: target.name,
    spec: target.parse(args as never),
    queues: parseInteger(args.queues, "--queues", { min: 1, max: QUEUES_MAX }),
    depth,
    ioBufBytes,
    ioDescBytes,
    mode,
    flags:
      (isBatch ? UBLK_F.BATCH_IO : 0n) |
      (args["auto-part-scan"] ? 0n : UBLK_F.NO_AUTO_PART_SCAN) |
      (ioDescBytes === IO_DESC_BYTES_MIN ? 0n : UBLK_F.IO_DESC_SIZE),
    recovery: readRecovery(args),
    stallTimeoutMs: readStallTimeout(args["stall-timeout"]),
  };
}

/** What the kernel does not do with batch commands. */
function checkBatch(mode: AddWish["mode"], depth: number): void {
  if (mode === "get-data") {
    throw new UsageError(
      "--batch and --get-data exclude each other: the kernel has no such batch command",
      "leave one of them out",
    );
  }
  // Its list of a queue's new requests has two places at least (7.3, kfifo_alloc).
  if (depth < 2) throw new UsageError(`--batch is not possible with --depth ${depth}`, "2 or more");
}

function readIoDescBytes(word: string): number {
  const limits = { min: IO_DESC_BYTES_MIN, max: IO_DESC_BYTES_MAX };
  const ioDescBytes = parseInteger(word, "--io-desc-size", limits);
  if (ioDescBytes % 8 === 0) return ioDescBytes;
  throw new UsageError(`--io-desc-size ${word} is not possible`, "write a multiple of 8");
}

/** The one mode that is asked for, if any. */
export function readMode(args: { readonly [M in Mode | "auto"]?: boolean | undefined }):
  Mode | "auto" | undefined {
  const asked = MODE_NAMES.filter((name) => args[name]);
  // The field's tools say all three for the third.
  const isFallback = asked.includes("auto-zc-fallback");
  const rest = asked.filter((name) => name !== "auto-zc" && name !== "zero-copy");
  const modes = isFallback ? rest : asked;
  if (modes.length <= 1) return modes[0];
  throw new UsageError(
    `Two data modes are named: --${modes[0]} and --${modes[1]}`,
    "a device has one; name it, or none for the best",
  );
}

/** Short ones would take a busy machine for a hung queue. */
function readStallTimeout(word: string): number {
  const stallTimeoutMs = parseMilliseconds(word, "--stall-timeout");
  if (stallTimeoutMs === 0 || stallTimeoutMs >= STALL_TIMEOUT_MS_MIN) return stallTimeoutMs;
  throw new UsageError(`--stall-timeout ${word} is too short`, "at least 500ms, or 0 for never");
}

/** `--recovery=MODE`, or the field's -r, -i and -e; undefined when nothing is said. */
export function readRecovery(
  args: Pick<ParsedArgs<typeof addArgs>, "recovery" | "r" | "i" | "e">,
): Recovery | undefined {
  const r = readBit(args.r, "-r");
  const i = readBit(args.i, "-i");
  const e = readBit(args.e, "-e");
  const { recovery } = args;
  if (recovery !== undefined) {
    if (r !== undefined || i !== undefined || e !== undefined) {
      throw new UsageError("--recovery and -r, -i, -e say the same thing", "use one of them");
    }
    // The field's long forms take a bit: --recovery 1.
    if (recovery === "0") return "none";
    if (recovery === "1") return "reissue";
    const mode = RECOVERIES.find((known) => known === recovery);
    if (mode) return mode;
    throw new UsageError(`Unknown --recovery "${recovery}"`, `there are: ${RECOVERIES.join(", ")}`);
  }
  if (r === false) {
    if (i || e) throw new UsageError("-i 1 and -e 1 need recovery, but -r 0 is given");
    return "none";
  }
  if (i && e) throw new UsageError("-i 1 and -e 1 exclude each other");
  if (e) return "fail";
  if (i === undefined && r === undefined) return undefined;
  // In the field -r 1 alone means: what was delivered fails.
  return i ? "reissue" : "queue";
}

function readBit(word: string | undefined, option: string): boolean | undefined {
  if (word === undefined) return undefined;
  if (word === "0" || word === "1") return word === "1";
  throw new UsageError(`${option} is 0 or 1, not "${word}"`);
}
