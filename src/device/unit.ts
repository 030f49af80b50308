// The systemd unit of `watch`, and how it gets to where systemd looks for it.

import {
  chmodSync,
  dirname,
  join,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "../builtin.ts";
import { EXIT, messageOf, UblkError } from "../errors.ts";
import { peek } from "./processes.ts";

export const UNIT_NAME = "ublk-bun-watch.service";
export const UNIT_DIR = "/etc/systemd/system";

export interface UnitOptions {
  /** The program and its first words, where it is not compiled. */
  readonly program: readonly string[];
  /** After "watch". */
  readonly words: readonly string[];
  readonly runDir: string;
}

/** The unit's text. Sources: systemd.service(5), systemd.exec(5), systemd.kill(5). */
export function unitText({ program, words, runDir }: UnitOptions): string {
  const command = [...program, "watch", ...words].map(quoted).join(" ");
  const name = /^\/(?:var\/)?run\/([^/]+(?:\/[^/]+)*)$/.exec(runDir)?.[1];
  const folder =
    name === undefined
      ? []
      : [
          "# The records there are what a disk is recovered by: they outlive this service.",
          `RuntimeDirectory=${quoted(name)}`,
          "RuntimeDirectoryMode=0700",
          "RuntimeDirectoryPreserve=yes",
        ];
  return [
    "# Written by: ublk-bun systemd",
    "[Unit]",
    "Description=Recovery of ublk-bun disks whose server has died",
    "Wants=modprobe@ublk_drv.service remote-fs-pre.target",
    "After=modprobe@ublk_drv.service",
    "# At shutdown, file systems on the disks (_netdev in fstab) go first.",
    "Before=remote-fs-pre.target",
    ...(name === undefined ? [`RequiresMountsFor=${quoted(runDir)}`] : []),
    "StartLimitIntervalSec=0",
    "",
    "[Service]",
    "Type=notify",
    "NotifyAccess=main",
    `ExecStart=${command}`,
    "Restart=always",
    "RestartSec=1",
    "# Wrong words on its command line do not mend themselves.",
    "RestartPreventExitStatus=2",
    "# The servers that it starts belong to this service, and must outlive it.",
    "KillMode=process",
    "OOMPolicy=continue",
    "OOMScoreAdjust=-1000",
    "# A mount of a disk must not live in the namespace of its server.",
    "PrivateMounts=yes",
    "# The program compiles what it runs.",
    "MemoryDenyWriteExecute=no",
    "TasksMax=infinity",
    "LimitNOFILE=1048576",
    "LimitMEMLOCK=infinity",
    "UMask=0077",
    ...folder,
    "",
    "[Install]",
    "WantedBy=multi-user.target",
    "",
  ].join("\n");
}

/** A word as systemd reads it: its specifiers (%) and variables ($) are doubled, blanks quoted. */
function quoted(word: string): string {
  const plain = word.replaceAll("%", "%%").replaceAll("$", () => "$$");
  return /^[\w@%+=:,./$-]+$/.test(plain)
    ? plain
    : `"${plain.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}

/** Writes the unit. False when it was there already, to the letter. */
export function installUnit(
  text: string,
  { dir = UNIT_DIR, force }: { readonly dir?: string; readonly force: boolean },
): boolean {
  const path = join(dir, UNIT_NAME);
  const there = peek(() => readFileSync(path, "utf8"));
  if (there === text) return false;
  if (there !== undefined && !force) {
    throw new UblkError(`"${path}" is there already, and says something else`, {
      exitCode: EXIT.failed,
      hint: "nothing was changed; to overwrite it: --force",
    });
  }
  const temporary = join(dir, `.${UNIT_NAME}.${process.pid}.tmp`);
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(temporary, text, { mode: 0o644, flag: "wx" });
    // Whatever the umask: systemd warns of others.
    chmodSync(temporary, 0o644);
    renameSync(temporary, path);
  } catch (cause) {
    rmSync(temporary, { force: true });
    throw new UblkError(`Cannot write "${path}": ${messageOf(cause)}`, {
      cause,
      hint: "run it as root; to see it only: ublk-bun systemd",
    });
  }
  return true;
}
