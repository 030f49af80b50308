// Runs another program and gives back what it printed, or an error that says what failed.

/** What a program needs besides its words. */
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs `words` and returns its stdout. Throws with its output when it fails or is not installed. */
export async function run(words: readonly string[], options: RunOptions = {}): Promise<string> {
  const name = words[0] ?? "";
  if (Bun.which(name, { PATH: searchPath() }) === null) {
    throw new Error(`Cannot find "${name}" (run: node .ci/setup.mjs --test)`);
  }
  const child = Bun.spawn([...words], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: { ...process.env, PATH: searchPath(), ...options.env },
  });
  const [stdout, stderr, status] = await Promise.all([
    child.stdout.text(),
    child.stderr.text(),
    child.exited,
  ]);
  if (status === 0) return stdout;
  const said = `${stdout}${stderr}`.trim().split("\n").slice(-20).join("\n");
  throw new Error(`"${words.join(" ")}" ended with ${status}:\n${said}`);
}

/** PATH with the folders that a plain user's lacks, where depmod, modprobe and mkfs live. */
export function searchPath(): string {
  return `${process.env["PATH"] ?? "/usr/bin:/bin"}:/usr/local/sbin:/usr/sbin:/sbin`;
}
