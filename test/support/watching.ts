// `ublk-bun watch` as a test uses it: in the background, and what it has caused as events.

import { type DeviceEvent, EventLog, EventReader } from "../../src/device/events.ts";
import { type Background, inFlight, killNow, readBlock, start, underLoad } from "./crash.ts";
import { program, serverPids, type TestDevice, until } from "./program.ts";

/** Starts watch and waits until it is at work. */
export const startWatch = (...words: string[]) => startWatchOf(program, ...words);

/** The same with another program. */
export async function startWatchOf(what: string, ...words: string[]): Promise<Background> {
  const watch = start(what, "watch", ...words);
  await until("watch is at work", () => {
    if (!watch.running) throw new Error(`watch has ended: ${watch.stderr()}`);
    return watch.stderr().includes("watches the disks");
  });
  return watch;
}

/** Ends watch as systemd does; it must end well. */
export async function endWatch(watch: Background): Promise<void> {
  watch.kill("SIGTERM");
  const { exitCode, stderr } = await watch.ended;
  if (exitCode !== 0) throw new Error(`watch ended with ${exitCode}: ${stderr}`);
}

const FIO =
  `fio --name=verify --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=32 --size=8m
  --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_state_save=0 --thread`.split(/\s+/);

/** fio writes what it can recognise and reads it again, pass after pass, until its `end`. */
export function keepVerifying({ id, path }: TestDevice) {
  let isOver = false;
  let fio: Background;
  let killed: Promise<unknown> = Promise.resolve();
  const work = (async () => {
    for (;;) {
      await killed;
      fio = start(...FIO, `--filename=${path}`);
      const { exitCode, stdout, stderr } = await fio.ended;
      if (exitCode !== 0 || stderr !== "") throw new Error(`fio: ${exitCode} ${stdout}${stderr}`);
      if (isOver) return;
    }
  })();
  return {
    /** kill -9 for the server while there are requests. */
    kill: async (): Promise<number> => {
      await until("fio's requests", () => inFlight(id) > 0);
      const killing = underLoad(id, [fio], () => killNow(id));
      killed = killing;
      return killing;
    },
    end: async () => {
      isOver = true;
      await work;
    },
  };
}

/** The events of one device, since `since`; from the file, for a process more is slow in a guest. */
export function eventsOf(id: number, since = 0): DeviceEvent[] {
  const log = new EventLog("/run/ublk-bun");
  using reader = new EventReader(log.path, { fromEnd: false });
  const events = [...log.older(), ...reader.take()];
  return events.filter((event) => event.id === id && Date.parse(event.time) >= since);
}

export const untilEvent = (name: string, id: number, since: number) =>
  until(`${name} of device ${id}`, () => eventsOf(id, since).some(({ event }) => event === name));

/** Waits until `device` has another server than `pid`, and can be read. */
export async function untilServedAnew({ id, path }: TestDevice, pid: number): Promise<void> {
  await until("a new server", () => serverPids(id).some((server) => server !== pid));
  await readBlock(path);
}
