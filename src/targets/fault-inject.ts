// fault_inject: null that is slow, fails, or dies on purpose. For tests and demonstrations of what
// errors and crashes look like.

import type { ParsedArgs } from "citty";

import { UsageError } from "../errors.ts";
import { ERRNO, SEEN_ERRNOS } from "../ffi/errno.ts";
import { mapMemory } from "../ffi/memory.ts";
import { type Backing, defineTarget } from "../target.ts";
import { parseBytes, parseDiskSize, parseInteger, parseRate } from "../units.ts";
import { type FaultOptions, FaultQueue, FAULTS } from "./fault-queue.ts";
import { NULL_BLOCK_BYTES, nullGeometry, openNothing, sizeArg } from "./null.ts";

const DELAY_US_MAX = 3_600_000_000;
const FAULT_AT_BYTES = 1024 ** 3;

type FaultSpec = FaultOptions & { readonly sizeBytes: number };

const faultArgs = {
  size: sizeArg,
  fault: {
    type: "string",
    description: `what happens at --fault-at: ${FAULTS.join(", ")}; default: eio`,
    valueHint: "FAULT",
  },
  "fault-at": {
    type: "string",
    description: "--fault happens to requests that touch this offset; default: 1GiB",
    valueHint: "BYTES",
  },
  "delay-us": {
    type: "string",
    description: "every request is answered so many microseconds late",
    valueHint: "N",
    default: "0",
  },
  "error-rate": {
    type: "string",
    description: "how many of the requests fail, 0 to 1 or in percent",
    valueHint: "P",
    default: "0",
  },
  error: {
    type: "string",
    description: `what they fail with: ${SEEN_ERRNOS.join(", ")}; default: EIO`,
    valueHint: "ERRNO",
  },
  seed: {
    type: "string",
    description: "decides which of a queue's requests fail; the same ones for the same seed",
    valueHint: "N",
    default: "1",
  },
  "die-after": {
    type: "string",
    description: "the server kills itself (SIGKILL) after so many requests; 0: never",
    valueHint: "N",
    default: "0",
  },
  "die-during-fetch": {
    type: "string",
    description: "1: it kills itself while it starts, when each queue has fetched one tag",
    valueHint: "0|1",
    default: "0",
  },
} as const;

export const faultInject = defineTarget({
  name: "fault_inject",
  summary: "null that is slow, fails or dies on purpose; for tests and demonstrations",
  data: "none",
  args: faultArgs,
  parse: parseFaults,
  open: async ({ sizeBytes }) => openFaults(sizeBytes),
  serve: (spec: FaultSpec, { queue, facts }) =>
    new FaultQueue(queue, spec, Number(facts["completedAddress"])),
  resize: async (spec, sizeBytes) => ({ ...spec, sizeBytes }),
});

function parseFaults(args: ParsedArgs<typeof faultArgs>): FaultSpec {
  const errorRate = parseRate(args["error-rate"], "--error-rate");
  const { fault, error } = args;
  const faultAt = args["fault-at"];
  const hasFault = fault !== undefined || faultAt !== undefined;
  if (fault !== undefined && !FAULTS.includes(fault)) {
    throw new UsageError(`Unknown --fault "${fault}"`, FAULTS.join(", "));
  }
  if (error !== undefined && errorRate === 0 && !hasFault) {
    throw new UsageError(
      `--error ${error} happens to no request`,
      "say to how many: --error-rate 1 is all of them",
    );
  }
  const faultAtBytes = faultAt === undefined ? FAULT_AT_BYTES : parseBytes(faultAt, "--fault-at");
  return {
    sizeBytes: parseDiskSize(args.size, NULL_BLOCK_BYTES),
    fault: fault ?? "eio",
    faultAtBytes: hasFault ? faultAtBytes : -1,
    delayUs: parseInteger(args["delay-us"], "--delay-us", { min: 0, max: DELAY_US_MAX }),
    errorRate,
    errno: parseErrno(error ?? "EIO"),
    seed: parseInteger(args.seed, "--seed", { min: 0, max: 0xffffffff }),
    dieAfter: parseInteger(args["die-after"], "--die-after", { min: 0, max: 0x7fffffff }),
    dieDuringFetch:
      parseInteger(args["die-during-fetch"], "--die-during-fetch", { min: 0, max: 1 }) === 1,
  };
}

function parseErrno(text: string): number {
  const name = SEEN_ERRNOS.find((known) => known === text.toUpperCase());
  if (name !== undefined) return ERRNO[name];
  throw new UsageError(
    `--error "${text}" would not reach the application`,
    `the kernel passes on: ${SEEN_ERRNOS.join(", ")}`,
  );
}

/** One word that all queues count their completed requests in. */
function openFaults(sizeBytes: number): Backing {
  const counter = mapMemory(4096);
  return {
    ...openNothing(nullGeometry(sizeBytes)),
    facts: { completedAddress: counter.address },
    [Symbol.asyncDispose]: async () => counter[Symbol.dispose](),
  };
}
