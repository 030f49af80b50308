// Brings a machine that has only Node, npm and apt to where the demo (--run) or the tests (--test)
// can start: npm packages, a working Bun, Debian packages. Plain Node; quiet when all is there.
import { spawnSync } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const BUN = join(ROOT, "node_modules/.bin/bun");
const FOLDERS = `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`.split(
  ":",
);

/**
 * Debian package, the program (or file) that proves it is there, what it is for, and who wants it:
 * "always"; "guest" where the kernel runs in a guest; "test" for the tests alone.
 */
const PACKAGES = [
  ["fio", "fio", "reads and writes the disk", "always"],
  ["kmod", "depmod", "loads the kernel's modules in order", "always"],
  ["util-linux", "setpriv", "ends a guest with its parent", "always"],
  ["dpkg", "dpkg", "unpacks kernels and liburing", "always"],
  ["qemu-system-x86", "qemu-system-x86_64", "runs a kernel that has the ublk driver", "guest"],
  ["xz-utils", "xz", "unpacks the guest's modules", "guest"],
  ["gcc", "gcc", "checks layouts against the headers, builds the reference server", "test"],
  ["libc6-dev", "/usr/include/stdio.h", "headers for gcc", "test"],
  ["e2fsprogs", "mkfs.ext4", "file systems on the disk", "test"],
  ["xfsprogs", "mkfs.xfs", "file systems on the disk", "test"],
  ["nginx", "nginx", "serves the file of examples/http.ts", "test"],
  ["systemd", "systemd-analyze", "checks the unit for watch", "test"],
  ["procps", "ps", "looks for processes left behind", "test"],
];

main(process.argv.slice(2));

function main(words) {
  const [mode] = words;
  if (words.length !== 1 || (mode !== "--run" && mode !== "--test")) {
    fail("Usage: node .ci/setup.mjs --run | --test");
  }
  installNpmPackages();
  ensureBun();
  const hasDriver = process.getuid() === 0 && existsSync("/dev/ublk-control");
  installDebianPackages((who) => {
    if (who === "always") return true;
    return who === "guest" ? mode === "--test" || !hasDriver : mode === "--test";
  });
}

function installNpmPackages() {
  if (hasLockedPackages()) return;
  say("installing the npm packages of package-lock.json");
  run(["npm", "ci", "--no-audit", "--no-fund"], "npm ci");
}

/** Whether node_modules holds the versions of package-lock.json; optional ones may be absent. */
function hasLockedPackages() {
  const wanted = packagesOf("package-lock.json");
  const present = packagesOf("node_modules/.package-lock.json");
  return Object.entries(wanted).every(([path, { version, optional }]) => {
    if (path === "") return true;
    const found = present[path];
    return found === undefined ? optional === true : found.version === version;
  });
}

function packagesOf(lock) {
  const file = join(ROOT, lock);
  return existsSync(file) ? JSON.parse(readFileSync(file, "utf8")).packages : {};
}

function ensureBun() {
  const { devDependencies } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  if (bunVersion() === devDependencies.bun) return;
  // npm leaves it out where it is told to run no install scripts.
  say(`installing Bun ${devDependencies.bun}`);
  run([process.execPath, "node_modules/bun/install.js"], "Bun's own install script");
  const version = bunVersion();
  if (version === devDependencies.bun) return;
  fail(`Bun is "${version}", not "${devDependencies.bun}" (remove node_modules and try again)`);
}

function bunVersion() {
  const { status, stdout } = spawnSync(BUN, ["--version"], { encoding: "utf8" });
  return status === 0 ? stdout.trim() : "not running";
}

function installDebianPackages(isWanted) {
  const missing = PACKAGES.filter(([, proof, , who]) => isWanted(who) && !isThere(proof));
  if (missing.length === 0) return;
  const names = missing.map(([name]) => name);
  for (const [name, , purpose] of missing) say(`missing: ${name} (${purpose})`);
  const install = ["apt-get", "install", "-y", "--no-install-recommends", ...names];
  if (!isThere("apt-get")) fail(`Install them with your package manager: ${names.join(" ")}`);
  if (process.getuid() !== 0) {
    fail(`Run: sudo apt-get update && sudo ${install.join(" ")}`);
  }
  say("reading the package lists");
  run(["apt-get", "update", "-q"], "apt-get update");
  say(`installing ${names.join(", ")}`);
  run(install, "apt-get install");
  const still = missing.filter(([, proof]) => !isThere(proof)).map(([name]) => name);
  if (still.length > 0) fail(`Installed, but not working: ${still.join(" ")}`);
}

/** Whether `proof`, a program on the path or an absolute file, is there. */
function isThere(proof) {
  if (proof.startsWith("/")) return existsSync(proof);
  return FOLDERS.some((folder) => isProgram(join(folder, proof)));
}

function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** Runs `words` in the repository, silent unless it fails. */
function run(words, name) {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const options = { cwd: ROOT, env, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] };
  const { status, stdout, stderr, error } = spawnSync(words[0], words.slice(1), options);
  if (status === 0) return;
  process.stderr.write(`${stdout ?? ""}${stderr ?? ""}`);
  fail(`"${name}" failed${error === undefined ? "" : `: ${error.message}`}`);
}

function say(line) {
  process.stderr.write(`setup: ${line}\n`);
}

function fail(line) {
  say(line);
  process.exit(1);
}
