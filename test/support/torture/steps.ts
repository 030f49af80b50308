// Killed at every step: before and after each control command, each record and the fetching, in every
// process that takes part in add, recover, upgrade and del. Whatever is left, the commands deal with it.

import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";

import { parseRecord } from "../../../src/device/record-text.ts";
import { batchWords, isBatch } from "../batch.ts";
import {
  type Background,
  daemonPids,
  ddWords,
  killNow,
  readBlock,
  start,
  untilWaiting,
} from "../crash.ts";
import {
  type DeviceReport,
  hasFeature,
  leftovers,
  type Outcome,
  run,
  runOk,
  TestDevice,
  ublk,
  ublkOk,
  until,
} from "../program.ts";
import { ODD_PROGRAM } from "./build.ts";
import { type Death, DEATH_FILE } from "./program/death.ts";
import type { Torture, TortureResult } from "./torture.ts";
import { DiskNode, KernelLog } from "./watch.ts";

/** No command may take longer, whatever it meets. */
const TIMEOUT_S = 20;
const TIMEOUT = `--timeout=${TIMEOUT_S}s`;
/** A guest is slow, and a command may have several steps with a deadline each. */
const COMMAND_MS_MAX = 4 * TIMEOUT_S * 1000;

export interface Step extends Death {
  readonly verb: "add" | "recover" | "upgrade" | "del";
}

const both = (verb: Step["verb"], who: Step["who"], ...names: string[]): Step[] =>
  names.flatMap((step) =>
    (["before", "after"] as const).map((when) => ({ verb, who, step, when })),
  );

/** Every place there is to die at. */
export const STEPS: readonly Step[] = [
  ...both("add", "launcher", "GET_FEATURES"),
  ...both("add", "daemon", "ADD_DEV", "SET_PARAMS", "SAVE", "PREPARE", "FETCH", "START_DEV"),
  { verb: "add", who: "daemon", step: "HALF_FETCH", when: "after" },
  ...both("recover", "launcher", "GET_DEV_INFO"),
  ...both("recover", "daemon", "GET_DEV_INFO", "LOCK", "GET_PARAMS", "PREPARE"),
  ...both("recover", "daemon", "START_USER_RECOVERY"),
  ...both("recover", "daemon", "GET_QUEUE_AFFINITY", "FETCH", "END_USER_RECOVERY", "SAVE"),
  { verb: "recover", who: "daemon", step: "HALF_FETCH", when: "after" },
  ...both("upgrade", "launcher", "GET_DEV_INFO", "GO", "QUIESCE_DEV"),
  ...both("upgrade", "daemon", "GET_DEV_INFO", "PREPARE", "GET_PARAMS", "START_USER_RECOVERY"),
  ...both("upgrade", "daemon", "FETCH", "END_USER_RECOVERY", "SAVE", "DRAIN", "LEAVE"),
  ...both("del", "launcher", "GET_DEV_INFO", "FORGET"),
  ...both("del", "helper", "TRY_STOP_DEV", "STOP_DEV", "DEL_DEV"),
];

const ID = "0";
const ADD = ["add", "null", "-n0", "-q2", ...batchWords, TIMEOUT];

const arm = ({ who, step, when }: Step) =>
  writeFileSync(DEATH_FILE, JSON.stringify({ who, step, when }));

/** Runs the odd program, which dies at the step; how it ended. */
function dying(step: Step, words: readonly string[]) {
  arm(step);
  return ended(step, run([ODD_PROGRAM, ...words]));
}

/** How a command ended in which somebody was to die. */
async function ended({ verb, who, step, when }: Step, running: Promise<Outcome>) {
  const outcome = await running;
  if (existsSync(DEATH_FILE)) throw new Error(`nobody came by ${who} ${when} ${step}`);
  if (outcome.milliseconds > COMMAND_MS_MAX) throw new Error(`${verb} hung`);
  return outcome;
}

/** Runs the real program, which must come to an end in time, with one of these exit codes. */
async function answers(exitCodes: readonly number[], ...words: string[]): Promise<number> {
  const { exitCode, stderr, milliseconds } = await ublk(...words, TIMEOUT);
  if (!exitCodes.includes(exitCode) || milliseconds > COMMAND_MS_MAX) {
    throw new Error(`${words.join(" ")}: exit ${exitCode} after ${milliseconds} ms: ${stderr}`);
  }
  return exitCode;
}

/** Nobody works at any device any more, but for those who serve one. */
async function settled(): Promise<DeviceReport | undefined> {
  let report: DeviceReport | undefined;
  await until("all is quiet", async () => {
    [report] = JSON.parse(await ublkOk("list", "--json")) as DeviceReport[];
    const serving = report === undefined || report.serverPid === null ? 0 : 1;
    return daemonPids().length === serving;
  });
  return report;
}

/** Whatever record there is, is whole. */
function assertWhole(): void {
  for (const name of existsSync("/run/ublk-bun") ? readdirSync("/run/ublk-bun") : []) {
    if (name.endsWith(".json")) parseRecord(readFileSync(`/run/ublk-bun/${name}`, "utf8"), 0);
  }
}

/** A killed `add`: nothing is left, or what is left can be deleted, and then the id is free again. */
async function dieInAdd(step: Step): Promise<string> {
  const { exitCode } = await dying(step, ADD);
  if (step.who === "launcher") {
    if (exitCode !== 137) throw new Error(`add: exit ${exitCode}`);
  } else if (exitCode !== 1) throw new Error(`add: exit ${exitCode}`);
  const report = await settled();
  assertWhole();
  if (step.who === "daemon" && leftovers().length > 0) {
    throw new Error(`add has left ${leftovers().join(", ")}`);
  }
  if (report !== undefined) await answers([0], "del", ID, "--force");
  await answers([0], ...ADD.slice(0, -1));
  await readBlock("/dev/ublkb0");
  await answers([0], "del", ID);
  return `exit ${exitCode}${step.who === "daemon" ? ", taken back" : ""}`;
}

/** A killed `recover`: the disk waits, and what waits for it is served by the next one. */
async function dieInRecover(step: Step, canForget: boolean): Promise<string> {
  await using device = await TestDevice.add("null", "-n0", "-q2");
  const node = new DiskNode(device.id);
  killNow(0);
  await device.untilState("QUIESCED");
  await using waiting = start(...ddWords(device.path, 0));
  await untilWaiting(waiting, device.path);
  const { exitCode } = await dying(step, ["recover", ID, TIMEOUT]);
  const report = await settled();
  assertWhole();
  if (report === undefined) throw new Error("the device is gone");
  node.assertSame();
  const isLive = report.serverPid !== null;
  const code = await answers(isLive ? [6] : recoverCodes(step, canForget), "recover", ID);
  if (!isLive && code === 6) return `exit ${exitCode}, ${await giveUp(waiting)}`;
  node.assertSame();
  const { exitCode: ddExit, stderr } = await waiting.ended;
  if (ddExit !== 0) throw new Error(`the waiting read failed: ${stderr}`);
  await answers([0], "stop", ID);
  await answers([0], "del", ID);
  return `exit ${exitCode}${isLive ? ", live" : ""}`;
}

/**
 * What `recover` may answer once the server is dead. The older kernel never forgets one that has fetched
 * some of its tags and died before END; one that has fetched them all, it sometimes does.
 */
function recoverCodes({ step, when }: Step, canForget: boolean): readonly number[] {
  if (canForget) return [0];
  if (step === "HALF_FETCH") return [6];
  const isFetched =
    (step === "FETCH" && when === "after") || (step === "END_USER_RECOVERY" && when === "before");
  return isFetched ? [0, 6] : [0];
}

/** A disk that no server can take over is deleted, and what waited for it fails. */
async function giveUp(waiting: Background): Promise<string> {
  await answers([0], "del", ID, "--force");
  if ((await waiting.ended).exitCode === 0) throw new Error("the waiting read was answered");
  return "spent, deleted";
}

/** A killed `upgrade`, successor or predecessor: whatever happened, somebody serves the disk. */
async function dieInUpgrade(step: Step, canForget: boolean): Promise<string> {
  const isOfOld = step.step === "DRAIN" || step.step === "LEAVE";
  if (isOfOld) arm(step);
  // What waits is kept with it, too; only what had been begun would fail.
  const recovery = step.step === "QUIESCE_DEV" ? ["--recovery=queue"] : [];
  await runOk(ODD_PROGRAM, ...ADD, ...recovery);
  await using device = new TestDevice(Number(ID));
  const node = new DiskNode(device.id);
  const words = ["upgrade", ID, TIMEOUT, "--drain-timeout=2s"];
  const { exitCode } = isOfOld ? await ended(step, ublk(...words)) : await dying(step, words);
  const report = await settled();
  assertWhole();
  if (report === undefined) throw new Error("the device is gone");
  node.assertSame();
  await using waiting = start(...ddWords(device.path, 0));
  if (report.serverPid === null) {
    const codes = recoverCodes(step, canForget);
    if (!codes.includes(6)) throw new Error(`nobody serves the disk: ${exitCode}`);
    await untilWaiting(waiting, device.path);
    if ((await answers(codes, "recover", ID)) === 6) {
      return `exit ${exitCode}, ${await giveUp(waiting)}`;
    }
  }
  const { exitCode: ddExit, stderr } = await waiting.ended;
  if (ddExit !== 0) throw new Error(`the waiting read failed: ${stderr}`);
  await answers([6], "recover", ID);
  await answers([0], "stop", ID);
  await answers([0], "del", ID);
  return `exit ${exitCode}, live`;
}

/** A killed `del`: the disk is served, stopped or gone, and a second one ends it. */
async function dieInDel(step: Step): Promise<string> {
  await using device = await TestDevice.add("null", "-n0", "-q2");
  const { exitCode } = await dying(step, ["del", String(device.id), TIMEOUT]);
  await until(
    "the helpers are gone",
    () => leftovers().every((what) => !what.startsWith("process")) || daemonPids().length === 1,
  );
  assertWhole();
  const report = (JSON.parse(await ublkOk("list", "--json")) as DeviceReport[])[0];
  const hasRecord = existsSync("/run/ublk-bun/0.json");
  await answers(report === undefined && !hasRecord ? [3] : [0], "del", ID);
  await until("nothing is left", () => leftovers().length === 0);
  return `exit ${exitCode}, ${report?.state ?? "gone"}`;
}

/** What the kernel at hand does not come by. */
async function isTaken({ step }: Step): Promise<boolean> {
  if (step === "QUIESCE_DEV") return !isBatch && (await hasFeature("QUIESCE"));
  const canTry = await hasFeature("SAFE_STOP_DEV");
  return !(step === (canTry ? "STOP_DEV" : "TRY_STOP_DEV"));
}

export async function dieAt(step: Step, canForget: boolean): Promise<string> {
  rmSync(DEATH_FILE, { force: true });
  const log = new KernelLog();
  const verbs = { add: dieInAdd, recover: dieInRecover, upgrade: dieInUpgrade, del: dieInDel };
  const end = await verbs[step.verb](step, canForget);
  // A disk that was given up has failed what waited for it, and one that nobody has had yet the search for
  // its partitions.
  if (!/spent|taken back/.test(end)) await log.assertNoErrors();
  if (leftovers().length > 0) throw new Error(`left: ${leftovers().join(", ")}`);
  return end;
}

/** The long form: every step. The short one: `kills` of them, chosen by the seed. */
export async function steps({ kills, random, say }: Torture): Promise<TortureResult> {
  const canForget = await hasFeature("UPDATE_SIZE");
  const possible: Step[] = [];
  for (const step of STEPS) if (await isTaken(step)) possible.push(step);
  const count = kills === 0 ? possible.length : Math.min(kills, possible.length);
  const order = possible.map((step) => ({ step, key: random() })).toSorted((a, b) => a.key - b.key);
  for (const { step } of order.slice(0, count)) {
    const what = `${step.verb}: ${step.who} killed ${step.when} ${step.step}`;
    try {
      say(`${what}: ${await dieAt(step, canForget)}`);
    } catch (error) {
      throw new Error(what, { cause: error });
    }
  }
  return { kills: count, detail: `${count} of ${possible.length} places to die at`, recoverMs: [] };
}
