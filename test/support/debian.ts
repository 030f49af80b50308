// Fetches and unpacks Debian packages into the cache, without root and beside the system's own apt.

import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { debianMirror } from "./apt-sources.ts";
import { cached, cacheRoot, exclusive, progress } from "./cache.ts";
import { run } from "./run.ts";

/**
 * A folder with the packages `names` of `suite` ("trixie", "bookworm-backports") unpacked into it
 * (`usr/…`, `lib/…`), kept for ever: a second call asks no mirror. Dependencies stay out, except
 * those that match `follow`: that is how a metapackage leads to its newest version.
 */
export async function fetchPackages(
  suite: string,
  names: readonly string[],
  options: { follow?: RegExp } = {},
): Promise<string> {
  return cached(join("debian", suite, names.join("+")), async (folder) => {
    if (Bun.which("apt-get") === null) {
      throw new Error(`Cannot fetch ${names.join(", ")}: no apt-get (needs Debian or a container)`);
    }
    await exclusive(`apt-${suite}`, async () => {
      const apt = await configure(suite);
      await ensureLists(apt, { fresh: false });
      try {
        await download(apt, names, options.follow, folder);
      } catch {
        // Mirrors drop a version when its successor comes, so a stored list may name what is gone.
        await ensureLists(apt, { fresh: true });
        await download(apt, names, options.follow, folder);
      }
    });
  });
}

/** Path of liburing.so.2 (2.9, Debian trixie). */
export async function liburingSo(): Promise<string> {
  const folder = await fetchPackages("trixie", ["liburing2"]);
  return join(folder, "usr/lib/x86_64-linux-gnu/liburing.so.2");
}

/** Headers and static library of liburing 2.9, for gcc's -isystem and -L. */
export async function liburingDev(): Promise<{ include: string; lib: string }> {
  const folder = await fetchPackages("trixie", ["liburing-dev"]);
  return { include: join(folder, "usr/include"), lib: join(folder, "usr/lib/x86_64-linux-gnu") };
}

/** Include folder of the 7.3 kernel's headers; its `asm/` is in `x86_64-linux-gnu` below it. */
export async function kernelHeaders73(): Promise<string> {
  const folder = await fetchPackages("trixie-backports", ["linux-libc-dev"]);
  const include = join(folder, "usr/include");
  if (!existsSync(join(include, "linux/ublk_cmd.h"))) {
    throw new Error(`No "linux/ublk_cmd.h" in "${include}" (remove "${folder}" and try again)`);
  }
  return include;
}

/** One suite's private apt: its configuration file and the folder of its package lists. */
interface Apt {
  readonly suite: string;
  readonly config: string;
  readonly lists: string;
}

async function configure(suite: string): Promise<Apt> {
  const home = join(cacheRoot(), "apt", suite);
  const lists = join(home, "lists");
  mkdirSync(join(lists, "partial"), { recursive: true });
  mkdirSync(join(home, "archives/partial"), { recursive: true });
  const { uri, signedBy } = debianMirror();
  const source = ["Types: deb", `URIs: ${uri}`, `Suites: ${suite}`, "Components: main"];
  if (signedBy !== undefined) source.push(`Signed-By: ${signedBy}`);
  writeFileSync(join(home, "debian.sources"), `${source.join("\n")}\n`, { mode: 0o600 });
  writeFileSync(join(home, "status"), "");
  const config = join(home, "apt.conf");
  // Read after the machine's own configuration, so its proxies stay and its hooks go.
  writeFileSync(
    config,
    [
      "#clear APT::Update::Pre-Invoke;",
      "#clear APT::Update::Post-Invoke;",
      "#clear APT::Update::Post-Invoke-Success;",
      `Dir::Etc::SourceList "${join(home, "debian.sources")}";`,
      'Dir::Etc::SourceParts "/dev/null";',
      'Dir::Etc::Preferences "/dev/null";',
      'Dir::Etc::PreferencesParts "/dev/null";',
      `Dir::State::Lists "${lists}";`,
      `Dir::State::Status "${join(home, "status")}";`,
      `Dir::Cache "${home}";`,
      'Dir::Cache::Archives "archives";',
      'APT::Sandbox::User "";',
      'APT::Architecture "amd64";',
      'APT::Architectures { "amd64"; };',
      'Acquire::Languages "none";',
      'Acquire::Retries "3";',
      "",
    ].join("\n"),
  );
  return { suite, config, lists };
}

async function ensureLists(apt: Apt, options: { fresh: boolean }): Promise<void> {
  const present = readdirSync(apt.lists).some((name) => name.includes("_Packages"));
  if (present && !options.fresh) return;
  progress(`fetching the package list of Debian ${apt.suite}`);
  await run(["apt-get", "-c", apt.config, "update", "-q", "--error-on=any"]);
}

async function download(
  apt: Apt,
  names: readonly string[],
  follow: RegExp | undefined,
  folder: string,
): Promise<void> {
  const debs = join(folder, ".debs");
  rmSync(debs, { recursive: true, force: true });
  mkdirSync(debs);
  for (const name of await withDependencies(apt, names, follow)) {
    const shown = await run(["apt-cache", "-c", apt.config, "show", "--no-all-versions", name]);
    const sizeBytes = Number(/^Size: (\d+)/m.exec(shown)?.[1] ?? 0);
    progress(`fetching ${name} (${(sizeBytes / 1e6).toFixed(1)} MB)`);
    await run(["apt-get", "-c", apt.config, "download", "-q", name], { cwd: debs });
  }
  for (const deb of readdirSync(debs)) await run(["dpkg", "-x", join(debs, deb), folder]);
  rmSync(debs, { recursive: true });
}

async function withDependencies(
  apt: Apt,
  names: readonly string[],
  follow: RegExp | undefined,
): Promise<string[]> {
  const found = [...names];
  if (follow === undefined) return found;
  // The array grows while it is walked: breadth first, each package once.
  for (const name of found) {
    const text = await run(["apt-cache", "-c", apt.config, "depends", "--important", name]);
    for (const [, dependency] of text.matchAll(/^\s+\|?(?:Pre)?Depends: (\S+)/gm)) {
      if (dependency && follow.test(dependency) && !found.includes(dependency)) {
        found.push(dependency);
      }
    }
  }
  return found;
}
