// What it costs to be a person's own file: a no-op disk of ours beside nbdkit's plugins, and a disk that
// waits for a web server beside the same fetches without a disk.
//
//   bun bench/script.ts [--kernel 6.12|7.3] [--rounds N] [--only nop|http] [--answer-ms N]
//
// It boots a guest and prints tables. --answer-ms: what the web server takes for an answer (50).
// nop wants nbdkit with its Python plugin and nbd-client; nothing else of this project does.

import { existsSync } from "node:fs";
import { parseArgs } from "node:util";

import { runGuest } from "../test/support/guest/guest.ts";
import { KERNELS } from "../test/support/guest/kernel.ts";
import { fetching } from "./script-http.ts";
import { noOps } from "./script-nop.ts";

const { values } = parseArgs({
  options: {
    kernel: { type: "string", default: "7.3" },
    rounds: { type: "string", default: "9" },
    only: { type: "string", default: "nop http" },
    "answer-ms": { type: "string", default: "50" },
  },
});
const answerMs = Number(values["answer-ms"]);
const PACKAGES = ["nbdkit", "nbdkit-plugin-python", "nbd-client"];

async function outside(): Promise<number> {
  const kernel = KERNELS.find((name) => name === values.kernel);
  if (kernel === undefined) throw new Error(`--kernel is one of ${KERNELS.join(", ")}`);
  if (values.only.includes("nop") && !hasNbd()) {
    throw new Error(
      `nbdkit, its Python plugin or nbd-client is missing. ` +
        `Run: apt-get install -y --no-install-recommends ${PACKAGES.join(" ")}`,
    );
  }
  const guest = await runGuest({
    kernel,
    command:
      `node_modules/.bin/bun bench/script.ts --rounds ${values.rounds} --only "${values.only}" ` +
      `--answer-ms ${answerMs}`,
    timeoutMs: 3_000_000,
    parallel: true,
    onOutput: (text) => process.stdout.write(text),
  });
  return guest.exitCode;
}

const hasNbd = () =>
  Bun.which("nbdkit") !== null &&
  Bun.spawnSync(["nbdkit", "python", "--version"]).exitCode === 0 &&
  existsSync("/sbin/nbd-client");

async function inside(): Promise<number> {
  const rounds = Number(values.rounds);
  const kernel = (await Bun.file("/proc/sys/kernel/osrelease").text()).trim();
  console.log(`Linux ${kernel}, ${rounds} rounds, taking turns`);
  if (values.only.includes("http")) console.log(`\n${await fetching(rounds, answerMs)}`);
  if (values.only.includes("nop")) console.log(`\n${await noOps(rounds)}`);
  return 0;
}

process.exit(await (existsSync("/dev/ublk-control") ? inside() : outside()));
