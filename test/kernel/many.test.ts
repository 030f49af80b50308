// Many disks at once, of every kind: each serves, none disturbs another, `del --all` leaves nothing.

import { afterEach, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";

import { start } from "../support/crash.ts";
import { type DeviceReport, leftovers, runOk, ublk, ublkOk } from "../support/program.ts";

afterEach(() => expect(leftovers()).toEqual([]));

const SIZE_BYTES = 64 * 1024 ** 2;

function makeFile(path: string): string {
  writeFileSync(path, "");
  truncateSync(path, SIZE_BYTES);
  return path;
}

test("twenty disks of five kinds, I/O on all at once, then del --all", async () => {
  const folder = mkdtempSync("/dev/shm/many-");
  const words = (n: number): string[] => {
    const file = (name: string) => makeFile(`${folder}/${n}${name}`);
    switch (n % 5) {
      case 0:
        return ["null"];
      case 1:
        return ["mem", "--size=64M"];
      case 2:
        return ["loop", "-f", file("")];
      case 3:
        return ["stripe", "-f", file("a"), "-f", file("b"), "-q2"];
      default:
        return ["fault_inject", "--delay-us=100"];
    }
  };
  const ids = Array.from({ length: 20 }, (_, n) => n);
  for (const id of ids) await ublkOk("add", ...words(id), `-n${id}`, "-d16", "--quiet");
  const reports = JSON.parse(await ublkOk("list", "--json")) as DeviceReport[];
  expect(reports.map(({ id, state }) => `${id} ${state}`)).toEqual(ids.map((id) => `${id} LIVE`));

  const keepsData = (id: number) => [1, 2, 3].includes(id % 5);
  const jobs = ids.flatMap((id) => [
    `--name=disk${id}`,
    `--filename=/dev/ublkb${id}`,
    ...(keepsData(id) ? ["--rw=randwrite", "--verify=crc32c", "--do_verify=1"] : ["--rw=randrw"]),
    "--size=8m",
  ]);
  await runOk(
    "fio",
    "--direct=1",
    "--ioengine=libaio",
    "--iodepth=8",
    "--bs=4k",
    "--number_ios=100",
    ...jobs,
  );

  const { exitCode, stdout, stderr } = await ublk("del", "--all");
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  for (const id of ids) expect(stdout).toContain(`/dev/ublkb${id} is deleted\n`);
  rmSync(folder, { recursive: true });
});

test("del --all goes on after a disk that is in use, and says which", async () => {
  await ublkOk("add", "null", "-n0", "--quiet");
  await ublkOk("add", "mem", "--size=64M", "-n1", "--quiet");
  await ublkOk("add", "null", "-n2", "--quiet");
  await using holder = start("sh", "-c", "exec sleep 1000 < /dev/ublkb1");
  expect(holder.running).toBe(true);
  await runOk(
    "sh",
    "-c",
    `until [ "$(readlink /proc/${holder.pid}/fd/0)" = /dev/ublkb1 ]; do sleep 0.05; done`,
  );
  const { exitCode, stdout, stderr } = await ublk("del", "-a");
  expect(exitCode).toBe(5);
  expect(stderr).toContain(`open in pid ${holder.pid}`);
  expect(stdout).toContain("/dev/ublkb0 is deleted\n");
  expect(stdout).toContain("/dev/ublkb2 is deleted\n");
  expect(existsSync("/dev/ublkb1")).toBe(true);
  holder.kill("SIGKILL");
  await holder.ended;
  await ublkOk("del", "1");
});
