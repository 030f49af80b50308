// Reads this machine's own apt sources, to learn which Debian mirror and keyring it trusts.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** A Debian archive: its address and, if the machine says so, the keyring that signs it. */
export interface Mirror {
  readonly uri: string;
  readonly signedBy: string | undefined;
}

// Suites that live in the main archive; "-security" has an archive of its own.
const MAIN_SUITE =
  /^(bullseye|bookworm|trixie|forky|sid|stable|testing|unstable)(-updates|-backports)?$/;

/**
 * The first Debian main archive in the machine's sources, or `$UBLK_BUN_MIRROR` where there is one.
 * Throws where apt knows none (another distribution).
 */
export function debianMirror(etc = "/etc/apt"): Mirror {
  const chosen = process.env["UBLK_BUN_MIRROR"];
  if (chosen !== undefined) return { uri: chosen, signedBy: undefined };
  for (const file of sourceFiles(etc)) {
    const text = readFileSync(file, "utf8");
    const mirror = file.endsWith(".sources") ? fromDeb822(text) : fromOneLine(text);
    if (mirror !== undefined) return mirror;
  }
  throw new Error(
    `Cannot find a Debian archive in "${etc}" (set UBLK_BUN_MIRROR to the address of one)`,
  );
}

function sourceFiles(etc: string): string[] {
  const parts = join(etc, "sources.list.d");
  const names = existsSync(parts) ? readdirSync(parts).toSorted() : [];
  const files = names.filter((name) => /\.(sources|list)$/.test(name));
  const main = join(etc, "sources.list");
  return [...(existsSync(main) ? [main] : []), ...files.map((name) => join(parts, name))];
}

/** Stanzas of `Field: value` lines; a line that begins with a space continues the field before. */
export function fromDeb822(text: string): Mirror | undefined {
  const lines = text.split("\n").filter((line) => !line.startsWith("#"));
  for (const stanza of lines.join("\n").split(/\n\s*\n/)) {
    const fields = new Map<string, string>();
    for (const [, name, value] of stanza.matchAll(/^([\w-]+):[ \t]*(.*(?:\n[ \t].*)*)/gm)) {
      fields.set((name ?? "").toLowerCase(), (value ?? "").trimEnd());
    }
    const uri = fields.get("uris")?.trim().split(/\s+/)[0];
    const isMain = (fields.get("suites") ?? "")
      .split(/\s+/)
      .some((suite) => MAIN_SUITE.test(suite));
    const isOn = fields.get("enabled")?.toLowerCase() !== "no";
    const isBinary = (fields.get("types") ?? "").split(/\s+/).includes("deb");
    if (uri && isMain && isOn && isBinary) return { uri, signedBy: fields.get("signed-by") };
  }
  return undefined;
}

/** Lines of `deb [options] uri suite component…`. */
export function fromOneLine(text: string): Mirror | undefined {
  for (const [, options, uri, suite] of text.matchAll(
    /^\s*deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)/gm,
  )) {
    if (uri === undefined || suite === undefined || !MAIN_SUITE.test(suite)) continue;
    return { uri, signedBy: /signed-by=(\S+)/.exec(options ?? "")?.[1] };
  }
  return undefined;
}
