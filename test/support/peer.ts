// The reference peer: the kernel's own ublk test server and its scripts, built in the cache.

import { readdirSync } from "node:fs";
import { join } from "node:path";

import { cached, progress } from "./cache.ts";
import { fetchPackages, kernelHeaders73, liburingDev } from "./debian.ts";
import { run } from "./run.ts";

const SELFTESTS = "tools/testing/selftests/ublk";

// Beside the tests, what one reads to know what the driver does. GPL: read, never copied.
const PARTS = [
  SELFTESTS,
  "drivers/block/ublk_drv.c",
  "include/uapi/linux/ublk_cmd.h",
  "include/uapi/linux/io_uring.h",
  "Documentation/block/ublk.rst",
  "block/genhd.c",
  "io_uring",
];

/** Path of kublk, which runs on the host and in guests alike; built the first time. */
export async function buildKublk(): Promise<string> {
  return join(await selftests(), "kublk");
}

/** Folder of the kernel's ublk tests (`test_*.sh`), with kublk and metadata_size built in it. */
export async function selftests(): Promise<string> {
  return join(await kernelSource(), SELFTESTS);
}

/** Folder of the 7.3 kernel's source: the driver, io_uring and the tests, nothing else. */
export async function kernelSource(): Promise<string> {
  const folder = await cached("linux-source", async (into) => {
    await run(["gcc", "--version"]);
    const follow = /^linux-source-\d/;
    const packages = await fetchPackages("trixie-backports", ["linux-source"], { follow });
    const [archive] = new Bun.Glob("usr/src/*.tar.xz").scanSync({ cwd: packages });
    if (archive === undefined) throw new Error(`No kernel source in "${packages}"`);
    progress("unpacking the kernel's ublk tests (about 10 s)");
    const members = PARTS.map((part) => `*/${part}`);
    const words = ["tar", "-xJf", join(packages, archive), "-C", into, "--wildcards"];
    await run([...words, "--no-wildcards-match-slash", ...members]);
    await compile(join(into, onlyEntry(into), SELFTESTS));
  });
  return join(folder, onlyEntry(folder));
}

async function compile(tests: string): Promise<void> {
  const headers = await kernelHeaders73();
  const liburing = await liburingDev();
  const includes = [liburing.include, headers, join(headers, "x86_64-linux-gnu")];
  const flags = ["-O3", "-D_GNU_SOURCE=", ...includes.flatMap((folder) => ["-isystem", folder])];
  // liburing goes in whole, so that the program needs no library of the cache's to run.
  const libraries = [join(liburing.lib, "liburing.a"), "-lpthread", "-lm"];
  const alone = "metadata_size.c";
  const sources = readdirSync(tests).filter((name) => name.endsWith(".c") && name !== alone);
  await run(["gcc", ...flags, "-o", "kublk", ...sources, ...libraries], { cwd: tests });
  await run(["gcc", ...flags, "-o", "metadata_size", alone], { cwd: tests });
}

function onlyEntry(folder: string): string {
  const [name] = readdirSync(folder);
  if (name === undefined) throw new Error(`"${folder}" is empty (remove it and try again)`);
  return name;
}
