// `npm start`: runs examples/crash-and-recover.sh here where the driver is, in a guest elsewhere.

import { existsSync } from "node:fs";

import { runGuest } from "./guest/guest.ts";

const DEMO = "examples/crash-and-recover.sh";

async function demo(): Promise<number> {
  if (process.getuid?.() === 0 && existsSync("/dev/ublk-control")) {
    return Bun.spawn(["sh", DEMO], { stdio: ["ignore", "inherit", "inherit"] }).exited;
  }
  console.log("This machine has no ublk driver (or you are not root): starting a guest that has.");
  const { exitCode, kernelProblems } = await runGuest({
    kernel: "7.3",
    command: `sh ${DEMO}`,
    timeoutMs: 300_000,
    onOutput: (text) => process.stdout.write(text),
  });
  for (const line of kernelProblems) console.error(`the guest's kernel log says: ${line}`);
  return exitCode;
}

process.exit(await demo());
