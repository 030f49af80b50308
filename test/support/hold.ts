// Somebody else with a device's char device open, such as a child that inherited it.

import { expect } from "bun:test";

import { repository } from "./program.ts";

/** A process with a copy of the server's descriptor of /dev/ublkcID; `release` ends it. */
export async function holdCharDevice(serverPid: number, id: number) {
  const words = [`${repository}/test/support/keep-fd.ts`, String(serverPid), `/dev/ublkc${id}`];
  const child = Bun.spawn([process.execPath, ...words], { stdio: ["pipe", "pipe", "inherit"] });
  const { value } = await child.stdout.getReader().read();
  expect(Buffer.from(value ?? []).toString()).toBe("held\n");
  const release = async () => {
    child.kill("SIGKILL");
    await child.exited;
  };
  return { pid: child.pid, release, [Symbol.asyncDispose]: release };
}
